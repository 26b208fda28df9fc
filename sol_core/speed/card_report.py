"""``doctor --gpu``: what this card runs, how fast, and whether compressed steps pay on it."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

import torch

from kernels.gpu.triton_support import OPERATIONS
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action
from sol_core.errors import SolError
from sol_core.models import FrozenLM
from sol_core.models.card.self_test import CardReport, checked_card
from sol_core.models.devices import pick_device, pick_dtype, why_no_gpu
from sol_core.models.loading import load_language_model
from sol_core.progress import Progress

RIGHT, FALLBACKS, USE_CPU = 0, 1, 2  # exit status
HALF = Action(0.5, 0.5)
_CONTEXT, _WARM_UP, _STEPS = 1024, 8, 32


class Card(Protocol):
    """A card, or what stands in for one in tests."""

    device: torch.device

    def facts(self) -> dict[str, str]:
        """Its name, and the versions of what drives it."""

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all."""

    def check(self, dtype: torch.dtype, data_dir: Path, report: Progress) -> CardReport:
        """The result of its self-test."""

    def wait(self) -> None:
        """Wait until what was started is done."""


class CudaCard:
    """The first CUDA device."""

    device = torch.device("cuda")

    def facts(self) -> dict[str, str]:
        """See ``Card``."""
        driver = torch._C._cuda_getDriverVersion() if torch.version.cuda else 0  # type: ignore[attr-defined]  # a build with CUDA has it
        major, minor = torch.cuda.get_device_capability()
        return {
            "card": f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})",
            "driver": f"for CUDA {driver // 1000}.{driver % 1000 // 10}",
            "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
            "triton": _version("triton"),
            "compiler": shutil.which("gcc") or shutil.which("clang") or "none",
        }

    def memory(self) -> tuple[int, int]:
        """See ``Card``."""
        return torch.cuda.mem_get_info()

    def check(self, dtype: torch.dtype, data_dir: Path, report: Progress) -> CardReport:
        """See ``Card``."""
        return checked_card(self.device, dtype, data_dir, report)

    def wait(self) -> None:
        """See ``Card``."""
        torch.cuda.synchronize()


def card_report(
    model: str, data_dir: Path, report: Progress, dtype: str = "auto", card: Card | None = None
) -> dict[str, Any]:
    """Test, load, measure; JSON-ready."""
    if card is None:
        if pick_device("auto").type != "cuda":
            reason = why_no_gpu() or "SOL_DEVICE names the CPU"
            return _use_cpu({"card": f"none: {reason}"}, reason)
        card = CudaCard()
    facts: dict[str, Any] = card.facts()
    try:
        return _measured(card, facts, model, data_dir, dtype, report)
    except SolError as error:
        return _use_cpu(facts, str(error))


def _measured(
    card: Card, facts: dict[str, Any], name: str, data_dir: Path, dtype: str, report: Progress
) -> dict[str, Any]:
    free, total = card.memory()
    checked = card.check(pick_dtype(dtype, card.device), data_dir, report)
    replaced = dict.fromkeys(OPERATIONS, checked.missing) if checked.missing else checked.replaced
    device = str(card.device)
    model = load_language_model(
        name, data_dir=data_dir, dtype=dtype, device=device, on_progress=report
    )
    size = sum(matrix.weight.nbytes for matrix in model.lm.weights.matrices())
    facts |= {
        "memory": f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free",
        "dtype": model.dtype_name,
        "kernels": [f"{name}: {replaced.get(name) or 'right'}" for name in OPERATIONS],
        "graphs": checked.graphs or "equal to steps that start kernel by kernel",
        "model": f"{size / 1e9:.2f} GB; {_fit(size, free)}",
        "notes": list(model.notes),
    }
    report("measuring", 0.9)
    speeds = _speeds(model.lm, card)
    on_cpu = load_language_model(name, data_dir=data_dir, device="cpu", on_progress=report)
    speeds["cpu"] = _tokens_per_s(on_cpu.lm, DENSE, lambda: None)
    if speeds["cpu"] > speeds["dense"]:
        return _use_cpu(facts, "this machine's CPU is faster", speeds)
    ratio = speeds["sparse"] / speeds["dense"]
    pays = "pays" if ratio > 1.05 else "does not pay"
    return {
        "status": FALLBACKS if checked.sentences() or model.notes else RIGHT,
        "gpu": facts,
        "tokens_per_s": speeds,
        "verdict": f"Half of attention and MLP: {ratio:.2f} times the tokens/s of dense steps; "
        f"compressing {pays} on this card after {_context(model.lm)} tokens.",
    }


def _speeds(lm: FrozenLM, card: Card) -> dict[str, float]:
    graphs, speeds = lm.graphs, {}
    for suffix, used in (("", graphs), ("_eager", None)):
        lm.graphs = used
        for name, action in (("dense", DENSE), ("sparse", HALF)):
            speeds[name + suffix] = _tokens_per_s(lm, action, card.wait)
    lm.graphs = graphs
    return speeds


def _tokens_per_s(lm: FrozenLM, action: Action, wait: Any) -> float:
    how, context = GRIDS[DEFAULT_GRID].mechanisms, _context(lm)
    cache = lm.new_cache(1, context + _WARM_UP + _STEPS)
    tokens = torch.arange(context, device=lm.device)[None] % lm.spec.vocab_size
    lm.prefill(tokens, cache)
    began = 0.0
    for step in range(_WARM_UP + _STEPS):
        if step == _WARM_UP:
            wait()
            began = time.perf_counter()
        lm.decode_step(tokens[0, :1], cache, action, mechanisms=how)
    wait()
    return _STEPS / (time.perf_counter() - began)


def _context(lm: FrozenLM) -> int:
    return min(_CONTEXT, lm.spec.max_positions - _WARM_UP - _STEPS)


def _fit(size: int, free: int) -> str:
    """Return whether the page's model and the worker's fit at once, with a tenth for caches."""
    if 2.2 * size <= free:
        return "the page's and the worker's fit at once"
    return "one fits, not the worker's beside the page's" if 1.1 * size <= free else "none fits"


def _use_cpu(
    facts: dict[str, Any], reason: str, speeds: dict[str, float] | None = None
) -> dict[str, Any]:
    verdict = f"Use --device cpu: {reason}."
    return {"status": USE_CPU, "gpu": facts, "tokens_per_s": speeds or {}, "verdict": verdict}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
