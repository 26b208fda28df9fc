"""Turns of processes that compile the same kernels: the second one loads what the first compiled.

A first start has a page and its worker; each would compile for a minute or more of a core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_S = 0.5  # between looks at whether the program ends


@contextmanager
def turn_to_compile(kind: str) -> Iterator[None]:
    """Hold the turn of one kind of kernels, by a lock file in the cache of compiled code.

    Nobody waits once a kind was compiled to the end, nor where that folder cannot be written, nor
    in a program that ends.

    Args:
        kind: names what is compiled, in letters that file names have.
    """
    folder = Path(os.environ.get("NUMBA_CACHE_DIR", ""))
    if folder == Path() or (folder / f"{kind}.compiled").exists():
        yield
        return
    lock = _acquired(folder / f"{kind}.lock")
    try:
        yield
        with suppress(OSError):
            (folder / f"{kind}.compiled").touch()
    finally:
        if lock is not None:
            lock.release()


def _acquired(path: Path) -> FileLock | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while threading.main_thread().is_alive():
            with suppress(Timeout):
                lock.acquire(timeout=_LOOK_S)
                return lock
    except (OSError, NotImplementedError):  # read only, or a file system without locks
        pass
    return None
