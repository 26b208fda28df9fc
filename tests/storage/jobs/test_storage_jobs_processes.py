"""Many processes at one line of jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from storage import open_store
from tests.storage.child_python import StartPython, start_all

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


def test_no_two_processes_get_one_job(location: Path | str, start_python: StartPython) -> None:
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


def test_an_idle_claim_waits_for_no_writer(database_path: Path) -> None:
    with (
        open_store(database_path, busy_timeout_s=0.1) as store,
        closing(sqlite3.connect(database_path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert store.jobs.claim("w") is None
