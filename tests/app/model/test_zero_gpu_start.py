"""The start of a ZeroGPU Space, in forked calls of the stand-in for ``spaces``."""

import json
import os
from types import SimpleNamespace

import pytest
import torch

from app.model.compute import ModelLoader
from app.model.zero_gpu import COMPILE_S, ZeroGpu
from sol_core.generation import warm_up
from sol_core.models.card import checks, self_test, small_model
from tests.support import spaces_stand_in

FACTS = {"name": "m", "dtype_name": "bfloat16", "device_name": "cuda", "context_length": 8}


@pytest.fixture
def applied(monkeypatch, tmp_path):
    """Reports that were applied; kernels are "compiled" into a file."""
    reports = []
    monkeypatch.setattr(self_test.CardReport, "apply", lambda self: reports.append(self))
    monkeypatch.setattr(self_test, "missing_for_triton", lambda: None)
    monkeypatch.setattr(small_model.Widths, "of_model", lambda lm: small_model.SMALL)
    monkeypatch.setattr(warm_up, "warm_up_card", lambda lm: (tmp_path / "compiled").touch())
    spaces_stand_in.CALLS.clear()
    return reports


def start(seconds=30):
    lm = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    model = SimpleNamespace(**FACTS, notes=(), lm=lm)
    loader = ModelLoader("m", lambda report: model, in_background=False)
    loader.start()
    compute = ZeroGpu(loader, spaces_stand_in.GPU, seconds)
    compute.prepare()
    return loader, compute


def asked_of(compute):
    """Seconds that a run of 50 steps asks for."""
    list(compute.stream(nothing, lambda: False, 50))
    return spaces_stand_in.CALLS[-1].duration


def nothing(model, should_stop):
    yield "done"


def failing(name, *, kills):
    """``check_lines`` whose check of this name is wrong, or ends its process."""

    def check_lines(names, at, replaced):
        for check in names:
            yield json.dumps([check])
            if check == name and kills:
                os._exit(1)
            yield json.dumps([check, "wrong numbers" if check == name else None])
            if check == name:
                return

    return check_lines


@pytest.mark.parametrize("kills", [False, True])
def test_a_kernel_that_fails_runs_on_its_reference_and_the_page_says_so(
    kills, applied, tmp_path, monkeypatch
):
    monkeypatch.setattr(checks, "check_lines", failing("gated_mlp", kills=kills))
    loader, compute = start()
    (report,) = applied
    assert set(report.replaced) == {"gated_mlp"}
    (note,) = loader.status().facts["notes"]
    assert "gated_mlp runs on PyTorch's reference" in note
    assert (tmp_path / "compiled").exists()
    assert [call.name for call in spaces_stand_in.CALLS] == [*["_test_here"] * 2, "_compile_here"]
    assert asked_of(compute) == 15


def test_without_a_gpu_at_the_start_the_first_call_may_compile(applied, monkeypatch):
    monkeypatch.setattr(checks, "check_lines", failing("", kills=False))
    spaces_stand_in.refusals.append(("ZeroGPU queue timeout", "No GPU was available after 60s"))
    loader, compute = start()
    assert not applied
    assert loader.status().facts["notes"] == []
    assert asked_of(compute) == 15 + COMPILE_S
    assert asked_of(compute) == 15


def test_a_system_without_a_compiler_is_not_tested(applied, monkeypatch):
    monkeypatch.setattr(self_test, "missing_for_triton", lambda: "Install gcc.")
    loader, _ = start()
    assert applied[0].missing == "Install gcc."
    assert "Install gcc." in loader.status().facts["notes"][0]
    assert not spaces_stand_in.CALLS
