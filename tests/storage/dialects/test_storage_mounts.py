"""Which file system a path lies on, read from the text of a mount table."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.dialects.mounts import network_file_system, network_notice

TABLE = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local ext4 rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
user@server: /mnt/ssh fuse.sshfs rw 0 0
tmpfs /mnt/hidden nfs rw 0 0
tmpfs /mnt/hidden tmpfs rw 0 0

malformed
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/sol.sqlite3", None),
        ("/home/user/sol.sqlite3", "nfs4"),
        ("/home/local/sol.sqlite3", None),
        ("/homeless/sol.sqlite3", None),
        ("/mnt/my share/sol.sqlite3", "cifs"),
        ("/mnt/ssh/deep/er/sol.sqlite3", "fuse.sshfs"),
        ("/mnt/hidden/sol.sqlite3", None),
    ],
)
def test_the_innermost_mount_decides(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), TABLE) == kind


def test_an_empty_table_says_nothing() -> None:
    assert network_file_system(Path("/home/sol.sqlite3"), "") is None


def test_a_notice_names_file_and_file_system(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(TABLE, encoding="utf-8")
    notice = network_notice(Path("/home/user/sol.sqlite3"), table)
    assert notice is not None
    assert "/home/user/sol.sqlite3" in notice
    assert "nfs4" in notice
    assert "local disk" in notice
    assert network_notice(Path("/home/local/sol.sqlite3"), table) is None
    assert network_notice(Path("/home/user/sol.sqlite3"), tmp_path / "missing") is None
