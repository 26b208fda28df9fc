"""Files that are absent or whole, whatever kills the process: lock, staging folder, one rename;
SHA-256."""

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
_OS_ERROR = re.compile(r"os error (\d+)")  # as Rust's standard library writes it


def make_once(
    target: Path,
    is_there: Callable[[], bool],
    make: Callable[[Path], Path],  # of a private folder: what replaces the target
    on_progress: Progress = ignore_progress,  # told of waiting while another process makes it
) -> None:
    """Make a file or folder unless it is there; of several processes, one does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    import filelock  # not before the command line has found its packages

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
    """Raises: an error of this kind where the disk of a folder refuses something."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot store {name}: {explain_os_error(error, folder)}") from error


def leftovers(target: Path) -> list[Path]:
    """Staging folders that a killed process left, or in which a living one is at work."""
    return list(target.parent.glob(f"{glob.escape(_prefix(target))}*"))


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield an empty private folder beside ``target``; it is gone afterwards, whatever happens."""
    # A fresh name each time: a killed process's child may still be writing into the old one.
    folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a private path beside ``target`` for a file that replaces it in one rename."""
    staged = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield staged
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)


def publish(staged: Path, target: Path, staging: Path) -> None:
    """Flush a file or folder to disk and move it from ``staging`` to ``target`` in one rename."""
    for path in [staged, *staged.rglob("*")] if staged.is_dir() else [staged]:
        flush_to_disk(path)
    if target.is_dir():
        target.rename(staging / "replaced")
    os.replace(staged, target)
    flush_to_disk(target.parent)


def flush_to_disk(path: Path) -> None:
    """fsync a file or a folder. Windows flushes what is open for writing, and opens no folders."""
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
    """Raise OSError(ENOSPC) with both sizes when ``folder``'s disk cannot take ``num_bytes``."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes + SPARE_BYTES:
        need = (num_bytes + SPARE_BYTES) / 1e6
        raise OSError(errno.ENOSPC, f"{need:.0f} MB needed, {free / 1e6:.0f} MB free", str(folder))


def explain_os_error(error: OSError, folder: Path) -> str:
    """Say in one sentence for the user what the disk refused, where, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full ({reason}): free some space or use another --data-dir"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{folder} cannot be written ({reason}): make it writable or use another --data-dir"
    return f"{folder} cannot be used ({reason}): check the disk or use another --data-dir"


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def known_sha256(path: Path, stamps: Path | None) -> str:
    """A file's hex SHA-256; remembered in ``stamps`` until size, mtime or inode change."""
    if stamps is None:
        return sha256_of(path)
    status, key, known = path.stat(), str(path), read_json_object(stamps)
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    record = known.get(key)
    if not isinstance(record, dict) or record.get("stamp") != stamp:
        known[key] = record = {"stamp": stamp, "sha256": sha256_of(path)}
        with contextlib.suppress(OSError):  # read-only or full: it is computed again
            stamps.parent.mkdir(parents=True, exist_ok=True)
            with replacing(stamps) as staged:
                staged.write_text(json.dumps(known, indent=1), "utf-8")
    return str(record.get("sha256"))


def read_safetensors(path: Path, framework: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Header and tensors ("pt") or arrays ("numpy").

    Raises: ValueError for a file that is cut, or was ``sealed`` and has changed.
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
    """A header with a digest of all, by which ``read_safetensors`` finds a flipped bit."""
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
    """Write torch's tensors, which share no memory and are contiguous."""
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
