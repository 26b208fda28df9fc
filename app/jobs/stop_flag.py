"""A wish to stop that a signal handler may set.

``threading.Event`` is not for that: a handler that runs while ``wait`` holds its lock hangs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAP_S = 0.05
# Of signals that ask to end; no system has all.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")


class StopFlag:
    """False until ``set``."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Sleep for as long, or until it is set; returns whether it is."""
        ends_at = time.monotonic() + seconds
        while not self.is_set() and (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(_NAP_S, left))
        return self.is_set()


@contextmanager
def set_by_signals(stop: StopFlag) -> Iterator[None]:
    """Signals that ask to end, and are not ignored, set ``stop``; a second SIGINT ends at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
