"""SHA-256 of large files, computed once for as long as size, mtime and inode stay the same.

What was found is kept in one small JSON file. A change that leaves all three as they were, as a
failing disk makes, is seen only by ``sha256_of`` itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sol_core.files.staging import replacing, sha256_of

STAMPS_NAME = "checksums.json"


def first_damaged(expected: Mapping[Path, str], stamps: Path | None) -> tuple[Path, str] | None:
    """Return the first file that has another SHA-256 than expected, and the one it has.

    Args:
        expected: hex SHA-256 of each file.
        stamps: where to keep what was computed; a file that cannot be read or written only
            costs the time of computing it again. None computes all of them.
    Raises: OSError for a file that cannot be read.
    """
    for path, wanted in expected.items():
        digest = known_sha256(path, stamps)
        if digest != wanted:
            return path, digest
    return None


def known_sha256(path: Path, stamps: Path | None) -> str:
    """A file's hex SHA-256; arguments and errors as above."""
    known = {} if stamps is None else _read(stamps)
    key, stamp = str(path), _stamp(path)
    record = known.get(key)
    if not isinstance(record, dict) or record.get("stamp") != stamp:
        known[key] = record = {"stamp": stamp, "sha256": sha256_of(path)}
        if stamps is not None:
            _write(stamps, known)
    return str(record.get("sha256"))


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _read(stamps: Path) -> dict[str, Any]:
    try:
        record = json.loads(stamps.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(stamps: Path, known: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # read-only or full
        stamps.parent.mkdir(parents=True, exist_ok=True)
        with replacing(stamps) as staged:
            staged.write_text(json.dumps(known, indent=1), "utf-8")
