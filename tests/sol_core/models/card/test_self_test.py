"""The self-test of a card on stand-ins: faults injected, each of which ends in a sentence."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.host.paths import DataDir
from app.setup import diagnosis
from kernels.gpu.triton_support import OPERATIONS, replaced_operations, use_reference
from sol_core.models.card import checks, self_test
from sol_core.models.card.checks import CHECKS, GRAPHS, STEPS
from sol_core.models.card.self_test import checked_card, run_checks
from sol_core.models.step import graph
from sol_core.models.step.graph import StepGraphs
from tests.kernels.triton_cases import triton_here

ROOT = Path(__file__).parents[4]
CPU = torch.device("cpu")
ONE = {"page_attention"}


@pytest.fixture(autouse=True)
def _as_before():
    yield
    use_reference(())
    StepGraphs.off = None


def _child(faults, dies=()):
    """A child that ends after the first check that fails, or dies in the middle of one."""

    def run(names):
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


@pytest.mark.parametrize(
    ("child", "replaced", "has_graphs", "reason"),
    [
        (_child({"page_attention": "WrongNumbersError: differ by 2"}), ONE, True, "differ by 2"),
        (_child({}, dies=["page_attention"]), ONE, True, "ended with status -11"),
        (_child({GRAPHS: "WrongNumbersError: steps differ"}), set(), False, "CUDA graphs: Wrong"),
        # Though every kernel is right, none is used.
        (_child({STEPS: "WrongNumbersError: logits"}), set(OPERATIONS), False, "logits"),
        (lambda _: ("ImportError: no module", 1), set(OPERATIONS), False, "ImportError: no module"),
        (_child({}), set(), True, ""),
    ],
)
def test_what_fails_is_done_by_its_reference_and_the_rest_is_tried(
    child, replaced, has_graphs, reason, monkeypatch, caplog
):
    made = run_checks("T4", child)
    assert set(made.replaced) == replaced
    with caplog.at_level(logging.WARNING):
        made.apply()
    assert replaced_operations() == replaced
    monkeypatch.setattr(graph, "_CudaCapture", lambda device: None)
    assert (StepGraphs.make(torch.device("cuda")) is not None) == has_graphs
    assert bool(made.sentences()) == bool(reason)
    assert all(sentence in caplog.text for sentence in made.sentences())
    assert reason in "".join(made.sentences())


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
    made = checked_card(CPU, torch.float16, tmp_path, lambda *_: None)
    made.apply()
    assert replaced_operations() == set(OPERATIONS)
    assert package in made.sentences()[0]
    assert not (tmp_path / self_test.FOLDER).exists()


def test_the_result_is_kept_for_this_card_and_this_source(monkeypatch, tmp_path):
    ran = []

    def child(device, dtype, names, report):
        ran.append(dtype)
        return _child({"gated_mlp": "wrong"})(names)

    monkeypatch.setattr(self_test, "missing_for_triton", lambda: None)
    monkeypatch.setattr(self_test, "_run_child", child)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    card = ["T4"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card[0])
    made = [checked_card(CPU, torch.float16, tmp_path, lambda *_: None) for _ in range(2)]
    assert made[0] == made[1]
    assert list(made[1].replaced) == ["gated_mlp"]
    assert len(ran) == 2  # the second child did the checks after the one that failed
    monkeypatch.setattr("sol_core.models.devices.pick_dtype", lambda *_: torch.float16)
    (sentence,) = diagnosis._self_test(CPU, "auto", DataDir(tmp_path))
    assert sentence.startswith("gated_mlp runs on PyTorch's reference")
    card[0] = "L4"
    assert "doctor --gpu" in diagnosis._self_test(CPU, "auto", DataDir(tmp_path))
    assert checked_card(CPU, torch.float16, tmp_path, lambda *_: None).card == "L4"
    assert len(ran) == 4


def test_wrong_numbers_of_a_kernel_are_noticed(monkeypatch):
    right = checks.channel_pruning.prune_rows
    monkeypatch.setattr(checks.channel_pruning, "prune_rows", lambda *given: right(*given) + 1e-6)
    with triton_here(), pytest.raises(checks.WrongNumbersError, match="channels differ"):
        checks.run_check("keep_largest_channels", CPU, torch.float32)


def test_the_checks_run_in_a_process_of_their_own(tmp_path):
    """On the interpreter, which stands in for a card; the slower ones are the release's."""
    names = ["add_and_norm", "rotate_and_write", "keep_largest_channels", "fake_quantise"]
    command = [sys.executable, "-m", checks.__name__, "cpu", "float16", *names]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [line for name in names for line in ([name], [name, None])], done.stderr


@pytest.mark.release
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_all_checks_pass_on_the_interpreter(dtype, monkeypatch):
    monkeypatch.setattr(checks, "_NUM_STEPS", 3)
    with triton_here():
        for name in CHECKS:
            checks.run_check(name, CPU, dtype)
