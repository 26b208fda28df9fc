"""Identity of the process that works on a job, and a check that it still lives.

A worker id holds the process id, the moment the process started, and where that id means
something: process ids are used again, mean nothing on another machine or in another container,
and start over after a reboot. Only Linux tells the start of another process; elsewhere a living
id proves nothing, and the age of the heartbeat decides.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_WORKER_ID = re.compile(r"(\d+)-(\d+)-([0-9a-f]{12})")
_NO_START = 0  # where the start of a process cannot be known


def own_worker_id() -> str:
    """The id of this process: process id, start in clock ticks since boot, place."""
    pid = os.getpid()
    return f"{pid}-{_start_of(pid) or _NO_START}-{_place()}"


def process_id_of(worker: str) -> int | None:
    """The process id in a worker id; None when it is none of this program's, or of this place."""
    found = _WORKER_ID.fullmatch(worker)
    return int(found[1]) if found and found[3] == _place() else None


def is_worker_alive(worker: str) -> bool | None:
    """Return whether the worker's process runs; None when that cannot be known here."""
    found = _WORKER_ID.fullmatch(worker)
    if found is None or found[3] != _place():
        return None
    pid, start = int(found[1]), int(found[2])
    if start == _NO_START:
        return False if process_exists(pid) is False else None
    return _start_of(pid) == start


def process_exists(pid: int) -> bool | None:
    """Return whether a process has this id, be it the same or a later one; None when unknown."""
    if _has_proc():
        return _start_of(pid) is not None
    if sys.platform == "win32":  # there os.kill would end the process
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_of(pid: int) -> int | None:
    """Clock ticks since boot at which a process started; None when it is dead or unknown."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything; fields 3 (state) and 22 (start) follow it.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):  # dead, only not yet collected
        return None
    return int(fields[19])


@cache
def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


@cache
def _place() -> str:
    """Digest of what gives process ids their meaning: machine, boot, container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink(_PROC / "self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
