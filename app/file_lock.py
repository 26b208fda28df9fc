"""An exclusive lock on a file that the operating system drops when its holder dies.

``fcntl.flock`` where there is one, ``msvcrt.locking`` on Windows. A killed process
leaves no stale lock; the file itself stays and means nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FileLock"]

POLL_SECONDS = 0.2
WINDOWS_LOCK_OFFSET = 1 << 30  # beyond the content: a locked byte cannot be read by others


class FileLock:
    """Held by at most one process at a time; ``with FileLock(path):`` waits for it."""

    def __init__(self, path: Path, on_wait: Callable[[], None] | None = None) -> None:
        self._path = path
        self._on_wait = on_wait
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The held file descriptor; a child process that inherits it keeps the lock alive."""
        if self._descriptor is None:
            raise ValueError(f"the lock {self._path} is not held")
        return self._descriptor

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises OSError when the file cannot be opened."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def acquire(self) -> None:
        """Wait for the lock; ``on_wait`` is called once if another process holds it."""
        told = False
        while not self.try_acquire():
            if self._on_wait is not None and not told:
                self._on_wait()
                told = True
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Give the lock up; without effect when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing drops the lock
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, WINDOWS_LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
