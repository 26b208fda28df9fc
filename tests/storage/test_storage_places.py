"""Where the file lies: folders made, links followed, and places that cannot be written."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from storage import DatabaseWriteError, open_store
from tests.storage.child_python import StartPython


def test_folders_are_made_and_a_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b c" / "ü#?%20.sqlite3"
    with open_store(path) as store:
        store.runs.create("alice", "prompt", "model", "dense", {})
        assert store.path is not None
        assert store.path.exists()
    (tmp_path / "link").symlink_to(path)
    with open_store(tmp_path / "link") as store:
        assert store.path == Path(os.path.realpath(path))
        assert len(store.runs.list()) == 1


def test_a_parent_that_is_a_file_and_a_folder_in_its_place_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder", encoding="utf-8")
    for path in (file / "sol.sqlite3", file / "sub" / "sol.sqlite3", tmp_path):
        with pytest.raises(DatabaseWriteError, match=re.escape(str(path.parent))) as caught:
            open_store(path)
        assert isinstance(caught.value, OSError)


OPEN_AND_WRITE = """
import os, sys
from pathlib import Path
from storage import StorageError, open_store
open_store(Path(sys.argv[1])).close()  # loads everything while it can still be read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[2:]:
    try:
        with open_store(Path(path)) as store:
            store.runs.create("alice", "prompt", "model", "dense", {})
        print("written")
    except StorageError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_read_only_folder_and_file_are_reported(
    database_path: Path, start_python: StartPython
) -> None:
    """As root permissions do not bite, so the child then becomes another user."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        folder = Path(name)
        blank = folder / "blank"
        blank.mkdir()
        open_store(folder / "present" / "sol.sqlite3").close()
        open_store(folder / "file" / "sol.sqlite3").close()
        (folder / "file" / "sol.sqlite3").chmod(0o444)
        folder.chmod(0o755)
        blank.chmod(0o555)
        (folder / "present").chmod(0o555)
        (folder / "file").chmod(0o777)
        paths = (blank / "sol.sqlite3", *folder.glob("*/sol.sqlite3"), blank / "new" / "x.sqlite3")
        child = start_python(OPEN_AND_WRITE, database_path, *paths)
        output, _ = child.communicate(timeout=60)
        blank.chmod(0o755)
        (folder / "present").chmod(0o755)
    assert output.split() == ["DatabaseWriteError"] * 4, output


FILL_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from storage import DatabaseWriteError, open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_store(Path(sys.argv[1])) as store:
    run = store.runs.create("alice", "prompt", "model", "dense", {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
    index = 0
    try:
        while True:
            store.runs.append_events(run.id, [{"index": index, "text": "x" * 4000}])
            index += 1
    except DatabaseWriteError as error:
        print(run.id, index, len(store.runs.events(run.id)), error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_no_room_is_reported_and_loses_nothing(
    database_path: Path, start_python: StartPython
) -> None:
    output, _ = start_python(FILL_UNTIL_FULL, database_path).communicate(timeout=60)
    run_id, num_saved, num_read, message = output.split(" ", 3)
    assert int(num_saved) == int(num_read) > 10
    assert "free space" in message
    with open_store(database_path) as store:
        assert store.notices == ()
        assert store.runs.get(run_id).num_tokens == int(num_saved)
