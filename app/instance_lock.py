"""One ``serve`` per data directory: a second launch is told where the first one runs.

The lock file carries the holder's process id and, once the page is up, its address.
Commands that only read the model (generate, score, bench) do not take this lock.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import AlreadyRunningError, DataDirError
from app.file_lock import FileLock
from app.jobs.process_identity import process_exists

__all__ = ["hold_instance_lock", "is_held_by_living_process", "publish_url"]


@contextlib.contextmanager
def hold_instance_lock(path: Path) -> Iterator[None]:
    """Keep the data directory to this process while the block runs.

    Raises:
        AlreadyRunningError: another process holds it; the message says where it runs.
        DataDirError: the file system offers no locks or the file cannot be written.
    """
    lock = FileLock(path)
    try:
        acquired = lock.try_acquire()
    except OSError as error:
        raise DataDirError(
            f"cannot lock {path}: {error.strerror or error}; choose another folder with --data-dir"
        ) from error
    if not acquired:
        raise AlreadyRunningError(_describe_holder(path))
    try:
        _write(path, url=None)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.write_text("", encoding="utf-8")
        lock.release()


def publish_url(path: Path, url: str) -> None:
    """Record where the page is; called by the holder once the server listens."""
    _write(path, url=url)


def is_held_by_living_process(path: Path) -> bool:
    """Whether the process that took the lock last still exists; yes when that is unknown.

    Unlike an attempt to take the lock this is in nobody's way.
    """
    pid = _read(path).get("pid")
    return isinstance(pid, int) and process_exists(pid) is not False


def _write(path: Path, url: str | None) -> None:
    path.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")


def _describe_holder(path: Path) -> str:
    holder = _read(path)
    url, pid = holder.get("url"), holder.get("pid")
    where = f"at {url}" if url else "and is still starting"
    who = f" (process {pid})" if pid else ""
    return (
        f"another launch already uses the data directory {path.parent} {where}{who}: "
        "use that one, stop it, or start with --data-dir and another folder"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # being rewritten at this moment, or not ours
        return {}
    return content if isinstance(content, dict) else {}
