"""An evaluation that is killed goes on where it was, to the uninterrupted one's very result."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sol_core.progress import WorkProgress
from tests.sol_core.evaluation_child import CONFIG, TEXTS, load
from tests.sol_core.evaluation_stand_ins import contender, evaluate_contenders
from tests.support.tiny_language_model import save_model_folder

CHILD = Path(__file__).parents[1] / "evaluation_child.py"
ROOT = Path(__file__).resolve().parents[3]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model_folder(tmp_path_factory.mktemp("model"), "llama-gqa-tied", starts=False)


@pytest.fixture(scope="module")
def model(saved):
    return load(saved)


def evaluate(model, partial, config=CONFIG):
    """Batches that were run, and the result as JSON without its time."""
    events = list(evaluate_contenders(model, [contender()[0]], config, TEXTS, partial=partial))
    last = events[-1]
    assert last.result.pop("elapsed_s") > 0
    return num_reports(events), json.dumps(last.result, sort_keys=True)


@pytest.fixture(scope="module")
def uninterrupted(model):
    return evaluate(model, None)


def num_reports(events):
    """One for every batch that was run."""
    return sum(isinstance(event, WorkProgress) for event in events)


def run_and_kill(folder, saved, batches):
    """Start the evaluation in a process of its own and kill -9 it after so many batches."""
    command = [sys.executable, str(CHILD), str(folder), str(saved)]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(CHILD.parent)))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as child:
        for _ in range(batches):
            assert child.stdout.readline() == "WorkProgress\n"
            assert child.stdout.readline() == "WorkSample\n"
        child.kill()


def test_killed_twice_in_the_middle_the_result_is_the_same(saved, model, uninterrupted, tmp_path):
    total, wanted = uninterrupted
    run_and_kill(tmp_path, saved, 3)
    assert 1 <= len(list(tmp_path.glob("baselines-*"))) < 4, "killed among the baselines"
    run_and_kill(tmp_path, saved, 2)
    kept = len(list(tmp_path.iterdir()))
    run, found = evaluate(model, tmp_path)
    assert found == wanted
    assert 0 < run <= total - 5
    assert run >= total - kept
    assert evaluate(model, tmp_path) == (0, wanted), "everything is there now"
    assert not list(tmp_path.glob("*.part"))


def test_damaged_files_and_those_of_other_settings_are_passed_over(model, uninterrupted, tmp_path):
    total, wanted = uninterrupted
    assert evaluate(model, tmp_path) == (total, wanted)
    files = sorted(tmp_path.iterdir())
    assert len(files) == total
    for path in files[::3]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    files[1].write_bytes(b"")
    assert evaluate(model, tmp_path) == (len(files[::3]) + 1, wanted)
    other = dataclasses.replace(CONFIG, seed=4)
    run, found = evaluate(model, tmp_path, other)
    assert run == total
    assert found != wanted


def test_a_disk_that_takes_nothing_does_not_end_it(model, uninterrupted, tmp_path, caplog):
    place = tmp_path / "file"
    place.write_text("no folder can be made in here")
    assert evaluate(model, place / "partial") == uninterrupted
    messages = [record.message for record in caplog.records if "cannot be kept" in record.message]
    assert len(messages) == 1, "said once"
