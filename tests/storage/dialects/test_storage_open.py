"""Opening files that are newer, foreign, damaged or locked."""

import os
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

import storage
from storage.schema import LATEST_VERSION

PAGE = 4096
NOISE = bytes((7 * i * i + 3 * i + 1) % 251 for i in range(3 * PAGE))
DAMAGES = {
    "text": lambda _: b"hello, this is no database\n",
    "zeros": lambda _: bytes(2 * PAGE),
    "noise after the magic": lambda good: good[:16] + NOISE,
    "half a header": lambda good: good[:50],
    "first page only": lambda good: good[:PAGE],
    "cut inside a page": lambda good: good[: 6 * PAGE + 777],
    "page overwritten": lambda good: good[: 8 * PAGE] + NOISE[:PAGE] + good[9 * PAGE :],
    "page zeroed": lambda good: good[: 8 * PAGE] + bytes(PAGE) + good[9 * PAGE :],
}


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    """A sound database of 20 pages or more."""
    path = tmp_path_factory.mktemp("good") / "sol.sqlite3"
    with storage.open_store(path) as store:
        run = store.runs.create("alice", "prompt", "model", "dense", {})
        store.runs.append_events(run.id, [{"index": i, "text": "x" * 800} for i in range(100)])
    data = path.read_bytes()
    assert len(data) >= 20 * PAGE
    return data


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_kept_aside(database_path, good_bytes, damage):
    damaged = DAMAGES[damage](good_bytes)
    database_path.write_bytes(damaged)
    with storage.open_store(database_path) as store:
        (notice,) = store.notices
        run = store.runs.create("alice", "a new start", "model", "dense", {})
        assert [found.id for found in store.runs.list()] == [run.id]
    kept_name = re.compile(r"sol\.sqlite3\.corrupt-\d{8}-\d{6}")
    (kept,) = [path for path in database_path.parent.iterdir() if kept_name.fullmatch(path.name)]
    assert kept.read_bytes() == damaged
    assert str(kept) in notice
    assert "kept aside" in notice
    with storage.open_store(database_path) as store:
        assert store.notices == ()
        assert len(store.runs.list()) == 1


def test_companions_are_kept_with_it_and_no_name_is_taken_twice(database_path):
    for attempt in range(3):
        for suffix in ("", "-wal", "-journal"):
            Path(f"{database_path}{suffix}").write_bytes(
                b"damaged%s %d" % (suffix.encode(), attempt)
            )
        storage.open_store(database_path).close()
    kept = {path.name: path.read_text() for path in database_path.parent.glob("*.corrupt-*")}
    assert len(kept) == 9
    for name, data in kept.items():
        stem = name.removesuffix("-wal").removesuffix("-journal")
        assert data == f"damaged{name.removeprefix(stem)} {kept[stem].split()[-1]}"


def test_a_file_of_no_bytes_is_no_silent_beginning(database_path):
    database_path.write_bytes(b"")
    with storage.open_store(database_path) as store:
        (notice,) = store.notices
        assert f"{database_path} had 0 bytes" in notice
        store.runs.create("alice", "a new start", "model", "dense", {})
    with storage.open_store(database_path) as store:
        assert store.notices == (), "it is said once"
        assert len(store.runs.list()) == 1


def test_a_file_that_another_process_is_making_is_waited_for(database_path, monkeypatch):
    monkeypatch.setattr("storage.dialects.sqlite_health._BEING_MADE_S", 30.0)  # a busy machine
    database_path.write_bytes(b"")

    def make():
        with closing(sqlite3.connect(database_path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")

    maker = threading.Timer(0.3, make)
    maker.start()
    with storage.open_store(database_path) as store:
        assert store.notices == ()
    maker.join()


def test_damage_met_while_running_is_reported(database_path, good_bytes):
    database_path.write_bytes(good_bytes)
    with storage.open_store(database_path) as store:
        (run,) = store.runs.list()
        with closing(sqlite3.connect(database_path)) as connection:
            connection.execute("UPDATE events SET record = CAST('{\"index\":' AS BLOB) WHERE idx=3")
            connection.commit()
        assert len(store.runs.events(run.id, limit=3)) == 3
        with pytest.raises(storage.errors.DatabaseCorruptError, match="damaged"):
            store.runs.events(run.id)


REFUSED = {
    "newer": ("PRAGMA user_version = 99", f"version 99.*up to {LATEST_VERSION}.*Update"),
    "negative": ("PRAGMA user_version = -1", "version -1.*unchanged"),
    "another program's": ("CREATE TABLE bookmarks (url)", "another program.*unchanged"),
}


@pytest.mark.parametrize("is_crashed", [False, True])
@pytest.mark.parametrize(("made", "said"), REFUSED.values(), ids=REFUSED)
def test_a_newer_or_foreign_database_is_refused_untouched(tmp_path, made, said, is_crashed):
    """After a crash of its program, what tells it stands in the -wal only."""
    source, found = tmp_path / "source.sqlite3", tmp_path / "found.sqlite3"
    suffixes = ("", "-wal") if is_crashed else ("",)
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if is_crashed else 'DELETE'}")
        connection.execute(made)
        connection.commit()
        for suffix in suffixes:
            shutil.copyfile(f"{source}{suffix}", f"{found}{suffix}")
    before = [Path(f"{found}{suffix}").read_bytes() for suffix in suffixes]
    with pytest.raises(storage.errors.DatabaseVersionError, match=said) as caught:
        storage.open_store(found)
    assert str(found) in str(caught.value)
    assert [Path(f"{found}{suffix}").read_bytes() for suffix in suffixes] == before


def test_a_crash_while_the_file_was_made_is_undone(tmp_path, database_path):
    """A hot rollback journal needs a writer; the read-only look must not stop at it."""
    source = tmp_path / "source.sqlite3"
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 5")
        connection.execute("VACUUM")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE half (x)")
        connection.executemany("INSERT INTO half VALUES (?)", [(b"x" * PAGE,)] * 50)
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{source}{suffix}", f"{database_path}{suffix}")
        connection.execute("ROLLBACK")
    assert database_path.stat().st_size > 10 * PAGE
    with storage.open_store(database_path) as store:
        assert store.notices == ()
        assert store.runs.list() == []


def test_a_locked_database_is_reported_after_the_timeout(database_path):
    storage.open_store(database_path).close()
    for hold in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
        with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
            other.execute(hold)
            with pytest.raises(
                storage.DatabaseLockedError, match=r"locked by another.*Close the other"
            ):
                storage.open_store(database_path, busy_timeout_s=0.1)
    storage.open_store(database_path).close()


def test_a_lock_stops_writes_but_not_reads_and_passes(database_path):
    with storage.open_store(database_path, busy_timeout_s=0.1) as store:
        run = store.runs.create("alice", "prompt", "model", "dense", {})
        with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(storage.DatabaseLockedError) as caught:
                store.runs.append_events(run.id, [{"index": 0}])
            assert isinstance(caught.value, TimeoutError)
            assert store.runs.get(run.id) == run
        assert store.runs.append_events(run.id, [{"index": 0}]) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_log_with_real_pages_is_kept_or_used(tmp_path, good_bytes, damage):
    """SQLite itself deletes or uses up a -wal when it opens a damaged file for writing."""
    source, damaged = tmp_path / "source.sqlite3", tmp_path / "damaged.sqlite3"
    source.write_bytes(good_bytes)
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("DELETE FROM events WHERE idx % 2")
        connection.commit()
        log = Path(f"{source}-wal").read_bytes()
    damaged.write_bytes(DAMAGES[damage](good_bytes))
    Path(f"{damaged}-wal").write_bytes(log)
    with storage.open_store(damaged) as store:
        if store.notices:
            (kept,) = tmp_path.glob("damaged.sqlite3.corrupt-*-wal")
            assert kept.read_bytes() == log
            assert store.runs.list() == []
        else:
            (run,) = store.runs.list()
            assert len(store.runs.events(run.id)) == 50


def test_folders_are_made_and_a_link_is_followed(tmp_path):
    path = tmp_path / "a" / "b c" / "ü#?%20.sqlite3"
    with storage.open_store(path) as store:
        store.runs.create("alice", "prompt", "model", "dense", {})
        assert path.exists()
    (tmp_path / "link").symlink_to(path)
    with storage.open_store(tmp_path / "link") as store:
        assert len(store.runs.list()) == 1


def test_a_parent_that_is_a_file_and_a_folder_in_its_place_are_reported(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder", encoding="utf-8")
    for path in (file / "sol.sqlite3", file / "sub" / "sol.sqlite3", tmp_path):
        with pytest.raises(storage.DatabaseWriteError, match=re.escape(str(path.parent))) as caught:
            storage.open_store(path)
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
def test_read_only_folder_and_file_are_reported(database_path, start_python):
    """As root permissions do not bite, so the child then becomes another user."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        folder = Path(name)
        blank = folder / "blank"
        blank.mkdir()
        storage.open_store(folder / "present" / "sol.sqlite3").close()
        storage.open_store(folder / "file" / "sol.sqlite3").close()
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
def test_no_room_is_reported_and_loses_nothing(database_path, start_python):
    output, _ = start_python(FILL_UNTIL_FULL, database_path).communicate(timeout=60)
    run_id, num_saved, num_read, message = output.split(" ", 3)
    assert int(num_saved) == int(num_read) > 10
    assert "free space" in message
    with storage.open_store(database_path) as store:
        assert store.notices == ()
        assert store.runs.get(run_id).num_tokens == int(num_saved)
