"""The self-test of a card on stand-ins: faults injected, each of which ends in a sentence."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from app.host.paths import DataDir
from app.setup import diagnosis
from kernels.gpu.triton_support import OPERATIONS, replaced_operations, use_reference
from sol_core.models.card import checks, self_test
from sol_core.models.card.checks import CHECKS, GRAPHS, STEPS
from sol_core.models.card.self_test import checked_card, run_checks
from sol_core.models.card.small_model import SMALL
from sol_core.models.step.graph import StepGraphs

ROOT = Path(__file__).parents[4]
CPU = torch.device("cpu")
ONE = {"page_attention"}


@pytest.fixture(autouse=True)
def _as_before():
    yield
    use_reference(())
    StepGraphs.off = None
    self_test._REPORTS.clear()


@pytest.fixture
def card(monkeypatch):
    """A card whose ``faults`` by check children find; they are counted, and what they are asked."""
    made = SimpleNamespace(name="T4", faults={}, asked=[], children=0)

    def child(arguments, report):
        names = [name for name in arguments if name in CHECKS]
        made.asked += [name for name in names if name not in made.asked]
        made.children += 1
        return _child(made.faults)(names)

    monkeypatch.setattr(self_test, "missing_for_triton", lambda: None)
    monkeypatch.setattr(self_test, "_run_child", child)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: made.name)
    return made


def _checked(folder, widths=SMALL):
    return checked_card(CPU, torch.float16, widths, folder, lambda *_: None)


def _child(faults, dies=()):
    """A child that ends after the first check that fails, or dies in the middle of one."""

    def run(names, replaced=()):
        lines = ["a line of a library"]
        for name in names:
            lines.append(json.dumps([name]))
            if name in dies:
                return "\n".join(lines), -11
            lines.append(json.dumps([name, faults.get(name)]))
            if name in faults:
                return "\n".join(lines), 1
        return "\n".join(lines), 0

    return run


MLP = {"gated_mlp"}
WRONG = "WrongNumbersError: differ by 2"


@pytest.mark.parametrize(
    ("child", "replaced", "has_graphs", "reason"),
    [
        (_child({"page_attention": WRONG}), ONE, True, "differ by 2"),
        (_child({}, dies=["page_attention"]), ONE, True, "ended with status -11"),
        # Never started from inside another either.
        (_child({"fake_quantise": WRONG}), MLP | {"fake_quantise"}, True, "contains fake_quantise"),
        (_child({GRAPHS: "WrongNumbersError: steps differ"}), set(), False, "CUDA graphs: Wrong"),
        # Though every kernel is right, none is used.
        (_child({STEPS: "WrongNumbersError: logits"}), set(OPERATIONS), False, "logits"),
        (lambda *_: ("ImportError: no module", 1), set(OPERATIONS), False, "ImportError: no"),
        (_child({}), set(), True, ""),
    ],
)
def test_what_fails_is_done_by_its_reference_and_the_rest_is_tried(
    child, replaced, has_graphs, reason, monkeypatch, caplog
):
    made = run_checks(child)
    assert set(made.replaced) == replaced
    with caplog.at_level(logging.WARNING):
        made.apply()
    assert replaced_operations() == replaced
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    assert (StepGraphs.make(torch.device("cuda")) is not None) == has_graphs
    assert bool(made.sentences()) == bool(reason)
    assert all(sentence in caplog.text for sentence in made.sentences())
    assert reason in "".join(made.sentences())


def test_steps_and_graphs_are_checked_with_what_will_be_used():
    child, asked = _child({"add_and_norm": WRONG, STEPS: WRONG}), []

    def run(names, replaced):
        asked.append((names[0], set(replaced)))
        return child(names, replaced)

    run_checks(run)
    contained = {"add_and_norm", "fake_quantise", "keep_largest_channels", "gated_mlp"}
    assert asked == [("add_and_norm", set()), ("rotate_and_write", contained)]


@pytest.mark.parametrize(
    ("faults", "left"),
    [
        ({"gated_mlp": "OutOfMemoryError: CUDA out of memory"}, {"gated_mlp", STEPS, GRAPHS}),
        ({STEPS: "the process that tried it ended with status -1"}, {STEPS, GRAPHS}),
        ({GRAPHS: "OutOfMemoryError: CUDA out of memory"}, {GRAPHS}),
        ({"gated_mlp": WRONG}, set()),
        ({STEPS: WRONG}, set()),
    ],
)
def test_only_verdicts_on_numbers_are_kept(faults, left, card, tmp_path):
    """What passes is tried again in the next process, and with it what ran without it."""
    card.faults.update(faults)
    made = _checked(tmp_path)
    assert made.sentences()
    assert _checked(tmp_path) is made
    self_test._REPORTS.clear()
    card.asked.clear()
    card.faults.clear()
    again = _checked(tmp_path)
    assert set(card.asked) == left
    assert bool(again.sentences()) == (not left)


@pytest.mark.parametrize(
    ("change", "package"),
    [
        ({"which": lambda name: None}, "apt install gcc"),
        ({"get_paths": lambda: {"include": "/nowhere"}}, "-dev"),
        ({"CDLL": None}, "--gpus all"),
    ],
)
def test_a_missing_part_of_the_system_is_said_before_any_kernel_is_tried(
    change, package, monkeypatch, tmp_path
):
    (tmp_path / "Python.h").touch()

    def library(name):
        if change.get("CDLL", 1) is None:
            raise OSError(name)

    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(self_test.shutil, "which", change.get("which", lambda name: name))
    paths = change.get("get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(self_test.sysconfig, "get_paths", paths)
    monkeypatch.setattr(self_test.ctypes, "CDLL", library)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "T4")
    monkeypatch.setattr(self_test, "_run_child", lambda *_: pytest.fail("a kernel was tried"))
    made = _checked(tmp_path)
    made.apply()
    assert replaced_operations() == set(OPERATIONS)
    assert package in made.sentences()[0]
    assert not (tmp_path / self_test.FOLDER).exists()


def test_the_result_is_kept_for_this_card_and_these_widths(card, monkeypatch, tmp_path):
    card.faults["gated_mlp"] = WRONG
    made = _checked(tmp_path)
    assert list(made.replaced) == ["gated_mlp"]
    assert card.children == 2, "the second child did the checks after the one that failed"
    self_test._REPORTS.clear()
    assert _checked(tmp_path) == made
    assert card.children == 2
    monkeypatch.setattr("sol_core.models.devices.pick_dtype", lambda *_: torch.float16)
    (sentence,) = diagnosis._self_test(CPU, "auto", DataDir(tmp_path))
    assert sentence.startswith("gated_mlp runs on PyTorch's reference")
    card.faults.clear()
    assert not _checked(tmp_path, SMALL._replace(heads=6)).replaced, "another model's"
    assert card.children == 3
    card.name = "L4"
    assert "doctor --gpu" in diagnosis._self_test(CPU, "auto", DataDir(tmp_path))
    _checked(tmp_path)
    assert card.children == 4
    self_test.forget_verdicts(tmp_path)
    assert not _checked(tmp_path).replaced
    assert card.children == 5


def test_the_checks_run_in_a_process_of_their_own(tmp_path):
    """On the interpreter, which stands in for a card; the slower ones are the release's."""
    names = ["add_and_norm", "rotate_and_write", "keep_largest_channels", "fake_quantise"]
    given = ["cpu", "float16", json.dumps(SMALL), json.dumps(["page_attention"])]
    command = [sys.executable, "-m", checks.__name__, *given, *names]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [line for name in names for line in ([name], [name, None])], done.stderr
