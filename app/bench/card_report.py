"""``doctor --gpu``: what this card runs, how fast, and whether compressed steps pay on it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from kernels.gpu.triton_support import OPERATIONS
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action, Mechanisms
from sol_core.errors import SolError
from sol_core.models import FrozenLM
from sol_core.models.card.self_test import checked_card, forget_verdicts
from sol_core.models.card.small_model import Widths
from sol_core.models.devices import driver_version, pick_device, pick_dtype, why_no_gpu
from sol_core.models.loading import load_language_model
from sol_core.models.provenance import package_version
from sol_core.progress import Progress

RIGHT, FALLBACKS, USE_CPU = 0, 1, 2  # exit status
HALF = Action(0.5, 0.5)
_CONTEXT, WARM_UP, STEPS = 1024, 8, 32


def card_report(
    model: str,
    data_dir: Path,
    report: Progress,
    dtype: str = "auto",
    device: torch.device | None = None,
    *,
    again: bool = False,  # the self-test, also what has a verdict
) -> dict[str, Any]:
    """Test, load, measure, on the first CUDA device where none is named; JSON-ready."""
    if device is None:
        device = pick_device("auto")
        if device.type != "cuda":
            reason = why_no_gpu() or "SOL_DEVICE names the CPU"
            return _use_cpu({"card": f"none: {reason}"}, reason)
    facts: dict[str, Any] = _facts(device)
    if again:
        forget_verdicts(data_dir)
    try:
        return _measured(device, facts, model, data_dir, dtype, report)
    except SolError as error:
        return _use_cpu(facts, str(error))


def _facts(device: torch.device) -> dict[str, str]:
    """The card's name, and the versions of what drives it."""
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "card": f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})",
        "driver": f"for CUDA {driver_version()}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "triton": package_version("triton") or "not installed",
        "compiler": shutil.which("gcc") or shutil.which("clang") or "none",
    }


def _measured(
    device: torch.device,
    facts: dict[str, Any],
    name: str,
    data_dir: Path,
    dtype: str,
    report: Progress,
) -> dict[str, Any]:
    (free, total), asked = torch.cuda.mem_get_info(device), pick_dtype(dtype, device)
    model = load_language_model(
        name, data_dir=data_dir, dtype=dtype, device=str(device), on_progress=report
    )
    # As it was found when the model was loaded.
    checked = checked_card(device, model.lm.dtype, Widths.of_model(model.lm), data_dir, report)
    size = sum(matrix.weight.nbytes for matrix in model.lm.weights.matrices())
    facts |= {
        "memory": f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free",
        "dtype": model.dtype_name,
        "kernels": [f"{name}: {checked.replaced.get(name) or 'right'}" for name in OPERATIONS],
        "graphs": checked.graphs or "equal to steps that start kernel by kernel",
        "model": f"{size / 1e9:.2f} GB; {_fit(size, free)}",
        "notes": list(model.notes),
    }
    report("measuring", 0.9)
    how = GRIDS[DEFAULT_GRID].mechanisms
    context = min(_CONTEXT, model.context_length - WARM_UP - STEPS)
    speeds = step_rates(model.lm, how, context)
    on_cpu = load_language_model(name, data_dir=data_dir, device="cpu", on_progress=report)
    speeds["cpu"] = tokens_per_s(on_cpu.lm, DENSE, how, context)
    if speeds["cpu"] > speeds["dense"]:
        return _use_cpu(facts, "this machine's CPU is faster", speeds)
    ratio = speeds["sparse"] / speeds["dense"]
    pays = "pays" if ratio > 1.05 else "does not pay"
    return {
        "status": RIGHT if model.lm.dtype == asked and not checked.sentences() else FALLBACKS,
        "gpu": facts,
        "tokens_per_s": speeds,
        "verdict": f"Half of attention and MLP: {ratio:.2f} times the tokens/s of dense steps; "
        f"compressing {pays} on this card after {context} tokens.",
    }


def step_rates(lm: FrozenLM, how: Mechanisms, context: int) -> dict[str, float]:
    """Steps per second: dense, sparse, and both without graphs ("_eager")."""
    graphs, speeds = lm.graphs, {}
    for suffix, used in (("", graphs), ("_eager", None)):
        lm.graphs = used
        for name, action in (("dense", DENSE), ("sparse", HALF)):
            speeds[name + suffix] = tokens_per_s(lm, action, how, context)
    lm.graphs = graphs
    return speeds


def tokens_per_s(lm: FrozenLM, action: Action, how: Mechanisms, context: int) -> float:
    """Steps of a model per second, after a prefill of so many tokens."""

    def wait() -> None:
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)

    cache = lm.new_cache(1, context + WARM_UP + STEPS)
    tokens = torch.arange(context, device=lm.device)[None] % lm.spec.vocab_size
    lm.prefill(tokens, cache)
    began = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            wait()
            began = time.perf_counter()
        lm.decode_step(tokens[0, :1], cache, action, mechanisms=how)
    wait()
    return STEPS / (time.perf_counter() - began)


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
