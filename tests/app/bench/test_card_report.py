"""``doctor --gpu`` on a stand-in for a card: what it shows, its last line and its exit status."""

import pytest
import torch

from app.bench import card_report as reporting
from app.bench.card_report import FALLBACKS, RIGHT, USE_CPU, card_report
from app.cli.terminal import record_text
from kernels.gpu.triton_support import OPERATIONS
from sol_core.errors import ModelLoadError
from sol_core.models.card.self_test import CardReport
from tests.support.tiny_language_model import save_model_folder


@pytest.fixture
def folder(tmp_path):
    return save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)


def _report(folder, report, monkeypatch, speeds):
    """Args: speeds, dense, sparse, both eager and the CPU's; without them, real steps' here."""
    if speeds is not None:
        measured = iter(speeds)
        monkeypatch.setattr(reporting, "tokens_per_s", lambda *_: next(measured))
    facts = {"card": "RTX 0 (compute capability 8.6)", "driver": "for CUDA 12.8"}
    monkeypatch.setattr(reporting, "_facts", lambda _: dict(facts))
    monkeypatch.setattr(reporting, "checked_card", lambda *_: report)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6 * 10**9, 8 * 10**9))
    return card_report(str(folder), folder, lambda *_: None, device=torch.device("cpu"))


@pytest.mark.parametrize(("sparse", "pays"), [(150.0, "pays"), (95.0, "does not pay")])
def test_a_right_card_ends_with_whether_compressing_pays(folder, monkeypatch, sparse, pays):
    made = _report(folder, CardReport(), monkeypatch, [100.0, sparse, 40.0, 30.0, 20.0])
    assert made["status"] == RIGHT
    text = record_text(made)
    for line in ("RTX 0", "6.0 of 8.0 GB free", "page_attention: right", "fit at once"):
        assert line in text
    last = text.splitlines()[-1]
    assert f"{sparse / 100:.2f} times" in last
    assert f"compressing {pays} on this card" in last


def test_replaced_kernels_are_named_and_the_status_says_so(folder, monkeypatch):
    checked = CardReport({"gated_mlp": "CompilationError: no", "graphs": "steps differ"})
    made = _report(folder, checked, monkeypatch, None)
    assert set(made["tokens_per_s"]) == {"dense", "sparse", "dense_eager", "sparse_eager", "cpu"}
    assert min(made["tokens_per_s"].values()) > 0
    made = _report(folder, checked, monkeypatch, [100.0, 90.0, 40.0, 30.0, 20.0])
    assert made["status"] == FALLBACKS
    text = record_text(made)
    assert "gated_mlp: CompilationError: no" in text
    assert f"{'gpu graphs':24} steps differ" in text
    missing = CardReport(missing="Triton needs a C compiler: sudo apt install gcc")
    made = _report(folder, missing, monkeypatch, [100.0, 90.0, 40.0, 30.0, 20.0])
    assert made["status"] == FALLBACKS
    assert record_text(made).count("sudo apt install gcc") == len(OPERATIONS)


def test_a_slower_card_and_one_that_cannot_load_say_use_the_cpu(folder, monkeypatch):
    made = _report(folder, CardReport(), monkeypatch, [10.0, 9.0, 8.0, 7.0, 20.0])
    assert (made["status"], made["verdict"]) == (
        USE_CPU, "Use --device cpu: this machine's CPU is faster.",
    )  # fmt: skip

    def load(*_, **__):
        raise ModelLoadError("m takes 9.0 GB, more than cuda has free (6.0 GB)")

    monkeypatch.setattr(reporting, "load_language_model", load)
    made = _report(folder, CardReport(), monkeypatch, [])
    assert made["status"] == USE_CPU
    assert "9.0 GB" in made["verdict"]
