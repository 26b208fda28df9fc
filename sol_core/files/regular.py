"""Reads what somebody names: a regular file, and no more of it than it may have.

A pipe may never end, or never begin; a device may hold more than any memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe would wait


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most ``max_bytes``.

    Raises: OSError, whose ``strerror`` says what is wrong.
    """
    try:
        with open(os.open(path, os.O_RDONLY | _NO_WAIT), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file, but a pipe or a device")
            content = file.read(max_bytes + 1)
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error)) from error
    if len(content) > max_bytes:
        raise OSError(
            errno.EFBIG, f"it has more than {max_bytes / 1e6:g} MB, the most that is read"
        )
    return content


def why_not_parsed(error: Exception) -> str:
    """The reason why JSON or TOML cannot be parsed, in the user's words."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "integer string conversion" in str(error):
        return "it holds a whole number of more than 4,300 digits"
    return str(error)[:200]
