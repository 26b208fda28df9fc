"""A job on a disk that fills up: room kept for its ending, and a sentence that says what to do.

The database lies on the same disk as a rule, so a job that fails because nothing can be written
could not even say so. It holds a file of its own while it works and gives it back for that.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESERVED_FILE = ".reserved"
RESERVED_BYTES = 1_000_000  # for the last rows and the ending, which take some 10 KB
WANTED_MB = 500  # what the labels and checkpoints of a standard training take, and some more


@contextmanager
def reserved_room(folder: Path) -> Iterator[None]:
    """Hold some of the disk in a job's folder, and give it back at the end.

    Raises: OSError when there is not even that much.
    """
    path = folder / RESERVED_FILE
    try:
        path.write_bytes(os.urandom(RESERVED_BYTES))  # which no file system can compress
        yield
    finally:
        path.unlink(missing_ok=True)


def why_disk_full(error: BaseException, folder: Path) -> str | None:
    """A sentence for the user when an error says that the disk is full, else None."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    try:
        left = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are left"
    except OSError:
        left = "how much is left is not known"
    return (
        f"The disk is full ({left}): free at least {WANTED_MB} MB in {folder} and press Resume. "
        "The job goes on from its last checkpoint."
    )
