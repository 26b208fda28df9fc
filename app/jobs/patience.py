"""Outwait a database that is locked or a disk that is full: a job is worth more than an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from storage import DatabaseLockedError, DatabaseWriteError

RETRY_S = 0.5
REMIND_S = 60.0
T = TypeVar("T")

logger = logging.getLogger(__name__)


def patiently(call: Callable[[], T], gives_up: Callable[[], bool] = lambda: False) -> T:
    """Return ``call()``, tried again while the database is locked or cannot be written.

    After each such failure ``gives_up`` is asked, and lets that failure pass.
    """
    told_at = -REMIND_S
    while True:
        try:
            return call()
        except (DatabaseLockedError, DatabaseWriteError) as error:
            if gives_up():
                raise
            if time.monotonic() - told_at >= REMIND_S:
                logger.warning("waiting for the database: %s", error)
                told_at = time.monotonic()
        time.sleep(RETRY_S)
