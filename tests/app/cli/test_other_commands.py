"""``jobs``, ``worker`` and ``bench``, a terminal that is closed, and the Tab key."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.bench import decode
from app.host.processes import is_worker_alive, own_worker_id
from app.jobs.worker import read_holder
from sol_core.files import assets
from sol_core.models import loading
from tests.app.command_line import one_line, started
from tests.app.tiny_project import PROJECT
from tests.app.waiting import wait_until


def test_jobs_lists_and_shows(run, store):
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
    filtered = run("jobs", "list", "--kind", "train", "--limit", "1", "--json")
    assert [job["id"] for job in json.loads(filtered.out)["jobs"]] == [first.id]
    shown = json.loads(run("jobs", "show", second.id, "--json").out)
    assert shown["latest_metrics"] == {"kl": 0.5, "nll": 2}
    assert shown["started_at"].endswith("+00:00")
    assert re.search(r"kl +0\.5\n", run("jobs", "show", second.id).out)


def test_jobs_are_steered(run, store, data_dir):
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


def test_jobs_of_dead_workers_are_not_called_running(run, store):
    pid, start, place = own_worker_id().split("-")
    job = store.jobs.create("train", "a", "t", {}, worker=f"{pid}-{int(start) - 1}-{place}")
    assert json.loads(run("jobs", "show", job.id, "--json").out)["status"] == "abandoned"


def test_the_worker_command_ends_cleanly(data_dir, store):
    job = store.jobs.create("train", "a", "t", {"config": {"bogus": 1}, "name": "n", "model": "m"})
    command = [PROJECT / "launch.py", "worker", "--data-dir", data_dir.root]
    with started(*command) as process:
        wait_until(lambda: store.jobs.get(job.id).status == "failed", 30)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == [f"Waiting for jobs in {data_dir.root} (Ctrl+C ends it)"]
    assert "unknown field 'bogus'" in str(store.jobs.get(job.id).error)


MIX = {
    **{"context": 256, "share_asked": 0.5, "share": 0.58, "keep_fraction": 0.1},
    **{"channel_keep_ratio": 0.3, "dense_bytes": 4e8, "tokens_per_s": 80.0, "speedup": 1.6},
    "of_ideal": 0.928,
}


RECORD = {
    "dense": [{"context": 256, "bytes": 4e8, "tokens_per_s": 50.0}],
    "mixes": [MIX, MIX | {"share_asked": 0.65, "share": 0.58}],
    "against_best": [{"context": 256, "decode_anchor": "openvino Q4_0", "decode_ratio": 2.5}],
    "storage": "q4",
}


@pytest.fixture
def asked(monkeypatch):
    """Options that the measurement, a stand-in here, was given."""
    options = []

    def bench(given, on_progress):
        options.append(given)
        return RECORD

    monkeypatch.setattr(decode, "bench_decode", bench)
    return options


def test_a_shape_needs_no_model_and_gives_a_record_or_a_table(run, asked):
    done = run("bench", "decode", "--shape", "0.6b", "--storage", "q4", "--rounds", "2", "--json")
    assert (done.status, json.loads(done.out)) == (0, RECORD)
    (options,) = asked
    assert (options.model_folder, options.shape, options.storage) == (None, "0.6b", "q4")
    assert (options.context, options.new_tokens, options.rounds) == (256, 24, 2)
    lines = run("bench", "decode", "--shape", "0.6b").out.splitlines()
    mixes = lines.index("mixes")
    assert [line.split()[:3] for line in lines[mixes + 2 : mixes + 4]] == [
        ["256", "0.5", "0.58"],
        ["256", "0.65", "0.58"],
    ]
    best = lines.index("against best")
    assert lines[best + 2].split() == ["256", "openvino", "Q4_0", "2.5"]


def test_other_programs_read_the_default_models_file(run, asked, data_dir, monkeypatch):
    gguf = data_dir.root / "gguf" / "model.gguf"
    monkeypatch.setattr(loading, "locate_model", lambda *rest: data_dir.root / "models")
    monkeypatch.setattr(assets, "ensure_default_gguf", lambda *rest: gguf)
    assert run("bench", "decode", "--openvino", sys.executable, "--json").status == 0
    (options,) = asked
    assert (options.openvino, options.gguf) == (Path(sys.executable), gguf)
    assert (options.data_dir, options.llama_cpp) == (data_dir.root, None)


STARTED = "SOL Explorer is at"


@contextmanager
def page(data_dir, prepare, **streams):
    """``launch.py`` in a session of its own; its model is missing, which stops no page."""
    command = [sys.executable, str(PROJECT / "launch.py"), "serve", "--port", "0", "--no-browser"]
    command += ["--data-dir", str(data_dir.root), "--model", str(data_dir.root / "missing")]
    process = subprocess.Popen(
        command, cwd=PROJECT, start_new_session=True, preexec_fn=prepare, **streams
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def living_worker(data_dir):
    worker = read_holder(data_dir.worker_lock_file)
    return worker if worker is not None and is_worker_alive(worker) else None


def test_a_closed_terminal_ends_page_and_worker_in_good_order(data_dir):
    terminal, its_end = pty.openpty()

    def own_the_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    with page(data_dir, own_the_terminal, **streams) as process:
        os.close(its_end)
        shown = ""
        while STARTED not in shown:
            shown += os.read(terminal, 1000).decode()
        wait_until(lambda: living_worker(data_dir) is not None, 60)
        worker = living_worker(data_dir)
        os.close(terminal)
        assert process.wait(60) == 0
    assert worker is not None
    assert not is_worker_alive(worker)
    assert data_dir.lock_file.read_text() == "", "the lock was given back"
    log = (data_dir.logs / "serve.log").read_text("utf-8")
    assert "Traceback" not in log


def test_under_nohup_a_closed_terminal_changes_nothing(data_dir, tmp_path):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    out = tmp_path / "out.txt"
    with out.open("wb") as stream, page(data_dir, ignore, stdout=stream, stderr=stream) as process:
        wait_until(lambda: STARTED in out.read_text("utf-8"), 60)
        process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0
