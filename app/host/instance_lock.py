"""One ``serve`` per data directory: a second launch is told where the first one runs.

A note beside the lock file has the holder's process id and, once the page is up, its address;
filelock before 4.0 empties the lock file when it looks whether it is free.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.host.errors import AppError, DataDirError


@contextlib.contextmanager
def hold_instance_lock(path: Path) -> Iterator[None]:
    """Keep the data directory to this process. Raises: AppError, DataDirError."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AppError(_describe_holder(path)) from error
    except (OSError, NotImplementedError) as error:
        raise DataDirError(
            f"cannot lock {path}: {error}; choose another folder with --data-dir"
        ) from error
    try:
        publish_url(path, None)
        yield
    finally:
        with contextlib.suppress(OSError):
            _note_of(path).unlink()
        lock.release()


def publish_url(path: Path, url: str | None) -> None:
    write_note(path, {"pid": os.getpid(), "url": url})


def write_note(path: Path, note: dict[str, Any]) -> None:
    _note_of(path).write_text(json.dumps(note), encoding="utf-8")


def read_note(path: Path) -> dict[str, Any]:
    """The note of the process that took the lock last, which may be dead; empty without one."""
    try:
        content = json.loads(_note_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # being rewritten at this moment, or not ours
        return {}
    return content if isinstance(content, dict) else {}


def _note_of(lock_file: Path) -> Path:
    return lock_file.with_suffix(".json")


def _describe_holder(path: Path) -> str:
    holder = read_note(path)
    where = f"at {holder['url']}" if holder.get("url") else "and is still starting"
    who = f" (process {holder['pid']})" if holder.get("pid") else ""
    return (
        f"another launch already uses the data directory {path.parent} {where}{who}: "
        "use that one, stop it, or start with --data-dir and another folder"
    )
