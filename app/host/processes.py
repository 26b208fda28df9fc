"""Processes that share a data directory: who works on a job, and who serves the page.

Process ids are used again, mean nothing on another machine or in another container, and start over
after a reboot: a worker id also holds the process's start and machine. A note beside a lock file
has the holder's id and, once the page is up, its address; filelock before 4.0 empties the lock file
when it looks whether it is free.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.host.errors import AppError, DataDirError
from sol_core.files.paths import read_json_object

_PROC = Path("/proc")
_IS_LINUX = sys.platform == "linux"  # elsewhere psutil knows the processes
_WORKER_ID = re.compile(r"(\d+)-(\d+)-([0-9a-f]{12})")


def own_worker_id() -> str:
    return _worker_id(os.getpid())


def process_id_of(worker: str) -> int | None:
    """The process id in a worker id; None if it is none of this program's or this machine's."""
    match = _WORKER_ID.fullmatch(worker)
    return int(match[1]) if match and match[3] == _machine() else None


def is_worker_alive(worker: str) -> bool | None:
    """Return whether the worker's process runs; None when that cannot be known here."""
    pid = process_id_of(worker)
    return None if pid is None else _worker_id(pid) == worker


def _worker_id(pid: int) -> str:
    return f"{pid}-{_start_of(pid)}-{_machine()}"


def process_exists(pid: int) -> bool:
    """Return whether a process has this id, be it the same or a later one."""
    return _start_of(pid) is not None


def _start_of(pid: int) -> int | None:
    """Clock ticks since boot at a process's start, or psutil's ms since 1970; None if dead."""
    if not _IS_LINUX:
        return _start_by_psutil(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything; fields 3 (state) and 22 (start) follow it.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):  # dead, only not yet collected
        return None
    return int(fields[19])


def _start_by_psutil(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        # Windows keeps what is known of a dead one while somebody has it open.
        if not psutil.pid_exists(pid) or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(1000 * process.create_time())
    except psutil.Error:
        return None


@cache
def _machine() -> str:
    """Digest of what gives process ids their meaning: machine, boot, container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink(_PROC / "self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@contextmanager
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
        with suppress(OSError):
            _note_of(path).unlink()
        lock.release()


def publish_url(path: Path, url: str | None) -> None:
    write_note(path, {"pid": os.getpid(), "url": url})


def write_note(path: Path, note: dict[str, Any]) -> None:
    _note_of(path).write_text(json.dumps(note), encoding="utf-8")


def read_note(path: Path) -> dict[str, Any]:
    """The note of the process that took the lock last, which may be dead; empty without one."""
    return read_json_object(_note_of(path))


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
