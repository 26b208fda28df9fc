"""Is a path on a network file system? SQLite's locks cannot be trusted there.

Reads the mount table where the system has one at /proc/mounts; elsewhere the answer is unknown,
which counts as no.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

MOUNT_TABLE = Path("/proc/mounts")
_NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs"})
_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


def network_notice(path: Path, mount_table: Path = MOUNT_TABLE) -> str | None:
    """A warning for the user when ``path`` (absolute) is on a network mount, else None."""
    try:
        table = mount_table.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = network_file_system(path, table)
    if kind is None:
        return None
    return (
        f"The database {path} is on a network file system ({kind}). SQLite can lose data there "
        "when several programs use it; choose a data directory on a local disk."
    )


def network_file_system(path: Path, mount_table: str) -> str | None:
    """The type of the network file system that holds ``path``; None for a local one.

    Args:
        path: absolute, symbolic links resolved.
        mount_table: text in the format of /proc/mounts; of two mounts on one point the later
            one hides the earlier.
    """
    posix_path = PurePosixPath(path.as_posix())
    best_depth, best_kind = -1, ""
    for line in mount_table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = PurePosixPath(_OCTAL_ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[1]))
        depth = len(point.parts)
        if depth >= best_depth and posix_path.is_relative_to(point):
            best_depth, best_kind = depth, fields[2]
    return best_kind if best_kind in _NETWORK_TYPES else None
