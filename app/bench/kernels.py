"""``bench kernels``: resources of each Triton kernel, a step's launches, and times on a GPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.bench.ahead_of_time import ARCHITECTURES, SHARED_LIMIT, compile_in_child
from app.bench.card_report import HALF, STEPS, WARM_UP, step_rates
from app.bench.random_model import MODELS, ModelShape, random_cache, random_model
from kernels.gpu.triton_support import recorded_launches
from sol_core.actions import DEFAULT_GRID, DENSE, Action, Mechanisms, grid_named
from sol_core.errors import ConfigError
from sol_core.progress import Progress


def bench_kernels(
    report: Progress,
    *,
    model: str = "SmolLM2-135M",  # a name in ``random_model.MODELS``
    context: int = 2048,  # cached tokens
    grid: str = DEFAULT_GRID,  # a name in ``actions.GRIDS``, whose mechanisms the step has
) -> dict[str, Any]:
    """Compile all kernels, and list those that one decode step starts."""
    if model not in MODELS:
        raise ConfigError(f"shape must be one of {', '.join(MODELS)}, got {model!r}")
    if context < 1:
        raise ConfigError(f"context must be 1 or more, got {context}")
    shape, how = MODELS[model], grid_named(grid).mechanisms
    if how.page_choice != how.scorer.compiled_choice:
        raise ConfigError(
            f"grid must be one whose pages are chosen by kernels; those of {grid} are "
            "chosen by the PyTorch reference"
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    report("compiling the kernels", 0.1)
    compiled = compile_kernels(",".join(f"sm_{arch}" for arch in ARCHITECTURES))
    report("counting a step's launches", 0.7)
    launches = count_launches(shape, HALF, context, how)
    step_ms, kernel_us = None, None
    if device is not None:
        report(f"measuring on {device}", 0.8)
        step_ms, kernel_us = measure_steps(shape, context, how)
    return {
        "model": shape.name,
        "context": context,
        "grid": grid,
        "device": device,
        **compiled,
        "launches": launches,
        "step_ms": step_ms,
        "kernel_us": kernel_us,
    }


def compile_kernels(architectures: str) -> dict[str, Any]:
    """Compile every shipped launch for some cards, which need not be here; JSON-ready."""
    known = {f"sm_{arch}": arch for arch in SHARED_LIMIT}
    wanted = [name.strip() for name in architectures.split(",") if name.strip()]
    if not wanted or not set(wanted) <= set(known):
        raise ConfigError(f"--compile takes some of {', '.join(known)}, got {architectures!r}")
    if importlib.util.find_spec("triton") is None:
        raise ConfigError("Triton is not installed: pip install triton")
    binaries = compile_in_child([known[name] for name in dict.fromkeys(wanted)])
    rows, failed = [], []
    for card in wanted:
        mine = [binary for binary in binaries if binary.architecture == known[card]]
        for kernel in dict.fromkeys(binary.kernel for binary in mine):
            variants = [binary for binary in mine if binary.kernel == kernel]
            error = next((binary.error for binary in variants if binary.error), None)
            needs = {
                name: max(getattr(binary, name) for binary in variants)  # the most of any
                for name in ("registers", "spills", "shared_bytes")
            }
            rows.append({"kernel": kernel, "card": card, **needs, "error": error})
            if error is not None:
                failed.append(f"{kernel} for {card}: {error}")
    version = importlib.metadata.version("triton")
    return {"triton": version, "kernels": rows, "problems": failed}


def count_launches(
    shape: ModelShape, action: Action, context: int, how: Mechanisms
) -> dict[str, int]:
    """Kernels that a dense and a compressed step start one by one, our own and torch's."""
    counts = {}
    for name, chosen in (("dense", DENSE), ("compressed", action)):
        once, twice = (
            _count(shape._replace(num_layers=layers, vocab_size=8), chosen, context, how)
            for layers in (1, 2)
        )
        counts[name] = once + (shape.num_layers - 1) * (twice - once)
    return counts


def _count(shape: ModelShape, action: Action, context: int, how: Mechanisms) -> int:
    token = torch.zeros(1, dtype=torch.int64)
    with recorded_launches() as record:
        # In fp16, whose products a CPU leaves to torch as a GPU does those of bf16.
        lm = random_model(shape, context + 2, dtype=torch.float16)
        cache = random_cache(lm, context, 2)
        lm.decode_step(token, cache, action, mechanisms=how)  # makes page bounds or 4-bit keys
        before, torch_kernels = len(record), _TorchKernels()
        with torch_kernels:
            lm.decode_step(token, cache, action, mechanisms=how)
        return len(record) - before + torch_kernels.count


def measure_steps(
    shape: ModelShape, context: int, how: Mechanisms
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Mean ms of a step on the CUDA device, ``alone`` and in a ``graph``, and µs by kernel."""
    from torch.profiler import ProfilerActivity, profile

    lm = random_model(shape, context + WARM_UP + STEPS, device="cuda")
    rates = step_rates(lm, how, context)
    times = {
        name: {"alone": 1000 / rates[f"{rate}_eager"], "graph": 1000 / rates[rate]}
        for name, rate in (("dense", "dense"), ("compressed", "sparse"))
    }
    cache, token = random_cache(lm, context, STEPS), torch.zeros(1, dtype=torch.int64).cuda()
    lm.graphs = None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(STEPS):
            lm.decode_step(token, cache, HALF, mechanisms=how)
        torch.cuda.synchronize(lm.device)
    return times, {event.key: event.device_time for event in profiler.key_averages()}


class _TorchKernels(TorchDispatchMode):
    """Counts torch's own operations that compute or copy: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no annotations
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        returns = function._schema.returns
        view = any(
            value.alias_info is not None and not value.alias_info.is_write for value in returns
        )
        name = str(function)
        self.count += not (view or name.startswith(("aten.empty", "aten.new_empty")))
        return function(*args, **(kwargs or {}))
