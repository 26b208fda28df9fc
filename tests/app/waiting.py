"""Wait for what other processes do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

StartWorker = Callable[..., "subprocess.Popen[str]"]


def wait_until(is_true: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for something that another process does."""
    gives_up_at = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < gives_up_at, f"waited {seconds} s in vain"
        time.sleep(0.02)
