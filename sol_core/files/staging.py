"""Writes files atomically, by a lock, a staging folder and a rename; computes their SHA-256."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sol_core.errors import SolError
from sol_core.files.paths import read_json_object
from sol_core.progress import Progress, ignore_progress

POLL_SECONDS = 0.2
_ON_WINDOWS = os.name == "nt"
SPARE_BYTES = 50_000_000  # left free on the disk for the database and the logs
STAMPS_NAME = "checksums.json"
_SEAL = "sha256"
_OS_ERROR = re.compile(r"os error (\d+)")  # format of Rust's standard library


def make_once(
    target: Path,
    is_there: Callable[[], bool],
    make: Callable[[Path], Path],  # private folder → replacement of the target
    on_progress: Progress = ignore_progress,  # called while another process makes it
) -> None:
    """Make a file or folder unless it exists; only one process at a time does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    import filelock  # after the command line has found its packages

    lock = filelock.FileLock(target.parent / f".{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        on_progress("Waiting for another process", 0.0)
        lock.acquire(poll_interval=POLL_SECONDS)
    try:
        for leftover in leftovers(target):
            shutil.rmtree(leftover, ignore_errors=True)
        if not is_there():
            with staged_folder(target) as staging:
                publish(make(staging), target, staging)
    finally:
        lock.release()


@contextmanager
def storing(name: str, folder: Path, kind: type[SolError]) -> Iterator[None]:
    """Turn an OSError in the block into an error of the given kind."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot store {name}: {explain_os_error(error, folder)}") from error


def leftovers(target: Path) -> list[Path]:
    """Return the target's staging folders, of killed or running processes."""
    return list(target.parent.glob(f"{glob.escape(_prefix(target))}*"))


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield an empty private folder beside ``target``, deleted afterwards."""
    # A new name each time: a killed process's child may still write to the old one.
    folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a private path beside ``target``, for a file that replaces it atomically."""
    staged = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield staged
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)


def publish(staged: Path, target: Path, staging: Path) -> None:
    """Flush a file or folder and move it from ``staging`` to ``target`` atomically."""
    for path in [staged, *staged.rglob("*")] if staged.is_dir() else [staged]:
        flush_to_disk(path)
    if target.is_dir():
        target.rename(staging / "replaced")
    os.replace(staged, target)
    flush_to_disk(target.parent)


def flush_to_disk(path: Path) -> None:
    """fsync a file or folder. Windows needs a file open for writing and opens no folders."""
    if _ON_WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_free_space(folder: Path, num_bytes: int) -> None:
    """Raises: OSError(ENOSPC) with both sizes if ``num_bytes`` do not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes + SPARE_BYTES:
        need = (num_bytes + SPARE_BYTES) / 1e6
        raise OSError(errno.ENOSPC, f"{need:.0f} MB needed, {free / 1e6:.0f} MB free", str(folder))


def explain_os_error(error: OSError, folder: Path) -> str:
    """Explain to the user in one sentence which disk operation failed and the remedy."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full ({reason}): free some space or use another --data-dir"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{folder} cannot be written ({reason}): make it writable or use another --data-dir"
    return f"{folder} cannot be used ({reason}): check the disk or use another --data-dir"


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def known_sha256(path: Path, stamps: Path | None) -> str:
    """Return a file's hex SHA-256, cached in ``stamps`` by size, mtime and inode."""
    if stamps is None:
        return sha256_of(path)
    status, key, known = path.stat(), str(path), read_json_object(stamps)
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    record = known.get(key)
    if not isinstance(record, dict) or record.get("stamp") != stamp:
        known[key] = record = {"stamp": stamp, "sha256": sha256_of(path)}
        with contextlib.suppress(OSError):  # read-only or full: not cached
            stamps.parent.mkdir(parents=True, exist_ok=True)
            with replacing(stamps) as staged:
                staged.write_text(json.dumps(known, indent=1), "utf-8")
    return str(record.get("sha256"))


def read_safetensors(path: Path, framework: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Read a file's header and its tensors ("pt") or arrays ("numpy").

    Raises: ValueError for a file that is truncated, or ``sealed`` and changed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            header = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    seal = header.pop(_SEAL, None)
    if seal is not None and sealed(tensors, header)[_SEAL] != seal:
        raise ValueError("its content is not what was written")
    return header, tensors


def sealed(tensors: dict[str, Any], header: dict[str, str]) -> dict[str, str]:
    """Return the header with a digest that lets ``read_safetensors`` detect changes."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        if not hasattr(value, "tobytes"):  # torch's; numpy has no bfloat16
            import torch

            value = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        digest.update(name.encode() + value.tobytes())
    return header | {_SEAL: digest.hexdigest()}


def write_safetensors(
    tensors: dict[str, Any], path: Path, header: dict[str, str] | None = None
) -> None:
    """Write contiguous torch tensors that share no memory."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, header)
    except SafetensorError as error:
        match = _OS_ERROR.search(str(error))
        if match is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from error
