"""``jobs`` and ``worker``: look at jobs, steer them, work on them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from app.host.paths import DataDir
from app.host.process_identity import own_worker_id
from storage import Store
from tests.app.command_line import RunCommand, one_line
from tests.app.tiny_project import PROJECT
from tests.app.waiting import wait_until


def test_jobs_lists_and_shows(run: RunCommand, store: Store) -> None:
    assert run("jobs", "list").out == "There are no jobs.\n"
    first = store.jobs.create("train", "a", "one\x1b[31m", {"x": 1})
    second = store.jobs.create("evaluate", "a", "two", {}, worker=own_worker_id())
    store.jobs.heartbeat(second.id, own_worker_id(), 0.25, "rollouts", 200)
    store.jobs.append_metrics(
        second.id,
        [{"step": 1, "metrics": {"kl": 1.0, "nll": 2}}, {"step": 2, "metrics": {"kl": 0.5}}],
    )
    table = run("jobs", "list").out
    assert re.search(rf"{second.id}  evaluate  running +25% +3 min  two", table)
    assert "\x1b" not in table
    listed = json.loads(run("jobs", "list", "--json").out)["jobs"]
    assert [job["id"] for job in listed] == [second.id, first.id]
    assert listed[1]["params"] == {"x": 1}
    filtered = run(
        "jobs", "list", "--kind", "train", "--status", "queued", "--limit", "1", "--json"
    )
    assert [job["id"] for job in json.loads(filtered.out)["jobs"]] == [first.id]
    shown = json.loads(run("jobs", "show", second.id, "--json").out)
    assert shown["latest_metrics"] == {"kl": 0.5, "nll": 2}
    assert shown["started_at"].endswith("+00:00")
    assert re.search(r"kl +0\.5\n", run("jobs", "show", second.id).out)


def test_jobs_are_steered(run: RunCommand, store: Store, data_dir: DataDir) -> None:
    job = store.jobs.create("train", "a", "t", {})
    for action, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert json.loads(run("jobs", action, job.id, "--json").out)["status"] == status
        assert store.jobs.get(job.id).status == status
    done = run("jobs", "resume", job.id)
    assert "launch.py worker" in done.err
    running = store.jobs.create("train", "a", "t", {}, worker=own_worker_id())
    assert "pausing" in run("jobs", "pause", running.id).out
    assert "Cancel it" in one_line(run("jobs", "delete", running.id))
    (data_dir.jobs / job.id).mkdir()
    assert json.loads(run("jobs", "delete", job.id, "--json").out) == {"deleted": job.id}
    assert not (data_dir.jobs / job.id).exists()
    for action in ("show", "cancel", "pause", "resume", "delete"):
        done = run("jobs", action, job.id, "--json")
        assert f"no job '{job.id}'" in one_line(done)
        assert done.status == 1


def test_jobs_of_dead_workers_are_not_called_running(run: RunCommand, store: Store) -> None:
    pid, start, place = own_worker_id().split("-")
    job = store.jobs.create("train", "a", "t", {}, worker=f"{pid}-{int(start) - 1}-{place}")
    assert json.loads(run("jobs", "show", job.id, "--json").out)["status"] == "abandoned"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["list", "--limit", "0"], ["list", "--status", "asleep"]]
)
def test_bad_jobs_commands(run: RunCommand, arguments: list[str]) -> None:
    done = run("jobs", *arguments)
    assert done.status == 2
    one_line(done)


def test_the_worker_command_ends_cleanly(data_dir: DataDir, store: Store) -> None:
    job = store.jobs.create("train", "a", "t", {"config": {"bogus": 1}, "name": "n", "model": "m"})
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "launch.py"), "worker", "--data-dir", str(data_dir.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: store.jobs.get(job.id).status == "failed", 30)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == [f"Waiting for jobs in {data_dir.root} (Ctrl+C ends it)"]
    assert "unknown field 'bogus'" in str(store.jobs.get(job.id).error)
