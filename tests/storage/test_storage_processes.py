"""Several threads, several processes, and processes that die."""

import os
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from storage import open_store
from tests.storage.child_python import start_all

APPEND_FOREVER = """
import sys
store = open_at(sys.argv[1])
run = store.runs.create("alice", "prompt", "model", "dense", {})
print(run.id, flush=True)
index = 0
while True:
    rows = [{"index": index + i, "text": "x" * 900} for i in range(1 + index % 3)]
    store.runs.append_events(run.id, rows)
    index += len(rows)
    print(index, flush=True)
"""

OPEN_MANY = """
import sys
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with open_store(Path(sys.argv[1]) / f"{number}.sqlite3") as store:
        run = store.runs.create("alice", "prompt", "model", "dense", {})
        store.runs.append_events(run.id, [{"index": 0}])
        print(len(store.notices))
"""

USE_AFTER_FORK = """
import os, sys
from storage import StorageError
with open_at(sys.argv[1]) as store:
    run = store.runs.create("alice", "prompt", "model", "dense", {})
    child = os.fork()
    if child == 0:
        try:
            store.runs.get(run.id)
        except StorageError as error:
            print(error, flush=True)
        store.close()
        with open_at(sys.argv[1]) as own:
            own.runs.append_events(run.id, [{"index": 0}])
        os._exit(0)
    os.waitpid(child, 0)
    print(store.runs.get(run.id).num_tokens)
"""


@pytest.mark.parametrize("num_batches", [1, 100])
def test_what_append_returned_survives_kill_9(location, start_python, num_batches):
    child = start_python(APPEND_FOREVER, location)
    run_id = child.stdout.readline().strip()
    promised = 0
    for _ in range(num_batches):
        promised = int(child.stdout.readline())
    child.kill()
    promised = max([promised, *map(int, child.stdout.read().split())])
    with open_store(location) as store:
        assert store.notices == ()
        run = store.runs.get(run_id)
        indices = [row["index"] for row in store.runs.events(run_id)]
        assert indices == list(range(run.num_tokens))
        # The batch in flight may have been saved although its number was never printed.
        assert promised <= run.num_tokens <= promised + 3
        assert store.runs.mark_interrupted() == 1
        assert store.runs.get(run_id).status == "interrupted"


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_processes_that_open_a_file_at_once(tmp_path, start_python, content):
    files, num_processes = [tmp_path / f"{number}.sqlite3" for number in range(4)], 3
    if content is not None:
        for path in files:
            path.write_bytes(content)
    children = [start_python(OPEN_MANY, tmp_path, len(files)) for _ in range(num_processes)]
    outputs = start_all(children)
    num_notices = sum(int(line) for output in outputs for line in output.split() if line.isdigit())
    kept = [path for path in tmp_path.glob("*.corrupt-*") if path.read_bytes() == b"damaged"]
    least, most, damaged = {
        None: (0, 0, 0),
        b"": (len(files), len(files) * num_processes, 0),  # each may tell whoever started it
        b"damaged": (len(files), len(files), len(files)),
    }[content]
    assert least <= num_notices <= most
    assert len(kept) == damaged
    for path in files:
        with open_store(path) as store:
            assert len(store.runs.list()) == num_processes


def test_closing_leaves_nothing_open(database_path):
    with open_store(database_path) as store:
        barrier = threading.Barrier(8)

        def work(_):
            with store._database.read() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM runs")
                barrier.wait(timeout=10)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        run = store.runs.create("alice", "prompt", "model", "dense", {})
    # SQLite removes the log when the last connection closes.
    assert not Path(f"{database_path}-wal").exists()
    if Path("/proc/self/fd").exists():
        targets = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        assert not [target for target in targets if target.startswith(str(database_path))]
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [(run.id,)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_is_told_to_open_its_own(location, start_python):
    output, _ = start_python(USE_AFTER_FORK, location).communicate(timeout=60)
    assert "Call open_store in the child" in output, output
    assert output.splitlines()[-1] == "1"


CLAIM_ALL = """
import sys
with open_at(sys.argv[1], busy_timeout_s=60) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while (job := store.jobs.claim(sys.argv[2])) is not None:
        print(job.id, flush=True)
        store.jobs.heartbeat(job.id, sys.argv[2], 0.5, "x")
        store.jobs.finish(job.id, sys.argv[2], "succeeded", {"by": sys.argv[2]})
"""


def test_no_two_processes_get_one_job(location, start_python):
    num_jobs, num_processes = 60, 4
    with open_store(location) as store:
        made = [store.jobs.create("train", "a", str(n), {}).id for n in range(num_jobs)]
        children = [start_python(CLAIM_ALL, location, f"w{n}") for n in range(num_processes)]
        outputs = [output.split() for output in start_all(children)]
        claimed = [job_id for output in outputs for job_id in output]
        assert sorted(claimed) == sorted(made), "each job once"
        for number, output in enumerate(outputs):
            for job_id in output:
                assert store.jobs.get(job_id).result == {"by": f"w{number}"}


def test_an_idle_claim_waits_for_no_writer(database_path):
    with (
        open_store(database_path, busy_timeout_s=0.1) as store,
        closing(sqlite3.connect(database_path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert store.jobs.claim("w") is None
