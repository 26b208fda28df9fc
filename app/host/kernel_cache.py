"""Numba's cache of the CPU kernels' machine code: a folder for every state of their sources.

Numba compiles a function again when the function's own file has changed, and does not notice a
change in a file that it takes helpers from. So the folder is named after all of ``kernels/``:
after an upgrade everything is compiled once more, and nothing stale can be loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "kernels"
KEPT_DAYS = 14  # a process of another version may still be compiling into its folder


def kernel_cache_folder(parent: Path, sources: Path = SOURCES) -> Path:
    """The folder for the kernels as they are now; it need not exist."""
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        digest.update(path.relative_to(sources).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return parent / digest.hexdigest()[:16]


def remove_unused_caches(folder: Path) -> None:
    """Delete folders beside this one that no start used for two weeks; mark this one as used."""
    oldest = time.time() - KEPT_DAYS * 86_400
    with contextlib.suppress(OSError):  # nothing there yet, or another start is doing the same
        for other in folder.parent.iterdir():
            if other != folder and other.is_dir() and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)
        if folder.is_dir():
            folder.touch()
