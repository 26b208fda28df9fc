"""``bench kernels``: the resources of each Triton kernel, and its time here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.gated_mlp import MlpPlan, MlpWeights, fused_gated_mlp
from kernels.key_codes import encode_keys
from kernels.kv_write import NewTokens, rotate_and_write
from kernels.page_attention import AttentionPlan, KVBlock, attend
from kernels.residual import Residual, add_and_norm
from sol_core.actions import Action, Mechanisms, ceil_fraction, grid_named
from sol_core.errors import ConfigError
from sol_core.speed.ahead_of_time import SHARED_LIMIT, Binary, compile_in_child
from sol_core.speed.gpu_step import count_launches, measure_steps
from sol_core.speed.random_model import MODELS, ModelShape

PAGE_SIZE = 8
REPEATS = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KernelBenchOptions:
    """Options of the measurement."""

    shape: str = "SmolLM2-135M"  # a name in ``random_model.MODELS``
    context: int = 2048  # cached tokens
    budget: float = 0.5  # κ and ρ of the step
    grid: str = "default"  # a name in ``actions.GRIDS``, whose mechanisms the step has

    def __post_init__(self) -> None:
        if self.shape not in MODELS:
            raise ConfigError(f"shape must be one of {', '.join(MODELS)}, got {self.shape!r}")
        if self.context < 1:
            raise ConfigError(f"context must be 1 or more, got {self.context}")
        how = grid_named(self.grid).mechanisms
        if how.page_choice != how.scorer.gpu_choice:
            raise ConfigError(
                f"grid must be one whose pages are chosen by kernels; those of {self.grid} are "
                "chosen by the PyTorch reference"
            )
        Action(self.budget, self.budget)


def bench_kernels(
    options: KernelBenchOptions, report: Callable[[str, float], None]
) -> dict[str, Any]:
    """Compile, count, measure; JSON-ready."""
    shape = MODELS[options.shape]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    report("compiling the kernels", 0.1)
    binaries = _binaries()
    action, how = Action(options.budget, options.budget), grid_named(options.grid).mechanisms
    report("counting a step's launches", 0.7)
    launches = count_launches(shape, action, options.context, how)
    measured: dict[str, float] = {}
    step_ms = None
    if device is not None:
        report(f"measuring on {device}", 0.8)
        measured = _measure(shape, action, options.context, how)
        step_ms = measure_steps(shape, action, options.context, how)
    return {
        "model": shape.name,
        "context": options.context,
        "budget": options.budget,
        "grid": options.grid,
        "device": device,
        "kernels": _by_kernel(binaries, measured),
        "launches": launches,
        "step_ms": step_ms,
        "shared_limit": {f"sm_{arch}": limit for arch, limit in SHARED_LIMIT.items()},
        "binaries": [
            {name: getattr(binary, name) for name in Binary.__dataclass_fields__}
            for binary in binaries
        ],
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
    errors, rows = _errors(binaries), []
    for name in wanted:
        mine = [binary for binary in binaries if binary.architecture == known[name]]
        for kernel, needs in _by_kernel(mine, {}).items():
            del needs["measured_us"]
            rows.append(
                {"kernel": kernel, "card": name, **needs, "error": errors.get((kernel, name))}
            )
    failed = [f"{kernel} for {card}: {error}" for (kernel, card), error in errors.items()]
    version = importlib.metadata.version("triton")
    return {"triton": version, "kernels": rows, "problems": failed}


def _errors(binaries: Sequence[Binary]) -> dict[tuple[str, str], str]:
    """The first error of each kernel and card that have one."""
    failed = (binary for binary in reversed(binaries) if binary.error)
    return {(binary.kernel, f"sm_{binary.architecture}"): binary.error for binary in failed}


def run_layer(
    shape: ModelShape, action: Action, context: int, device: str, how: Mechanisms
) -> None:
    """The Triton kernels of one layer's decode step, once, on random data."""
    heads, kv_heads, size = shape.num_heads, shape.num_kv_heads, shape.head_size
    pages = -(-context // PAGE_SIZE)
    generator = torch.Generator(device).manual_seed(0)

    def random(*dims: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(*dims, generator=generator, device=device, dtype=dtype)

    keys, values = (random(1, kv_heads, pages * PAGE_SIZE, size) for _ in range(2))
    codes, scales = (part.contiguous() for part in encode_keys(keys))
    hidden = random(1, shape.hidden_size, dtype=torch.float32)
    update = random(1, shape.hidden_size)
    norm = torch.ones(shape.hidden_size, device=device)
    residual = Residual(hidden, update, norm, 1e-5)
    kept = torch.tensor([-(-ceil_fraction(action.keep_fraction, context) // PAGE_SIZE)])
    tokens = torch.full((1, pages), PAGE_SIZE, device=device)
    how_chosen = how.page_scorer, how.page_choice
    plan = AttentionPlan(PAGE_SIZE, None, tokens > 0, kept.to(device), tokens, *how_chosen)
    entering, inner = how.mlp_shares(action.channel_keep_ratio)
    channels = torch.tensor([ceil_fraction(entering, shape.hidden_size)], device=device)
    weights = MlpWeights(
        random(shape.hidden_size, 2 * shape.intermediate_size),
        random(shape.intermediate_size, shape.hidden_size),
        down_norms=torch.ones(shape.intermediate_size, device=device),
    )
    mlp = MlpPlan(channels)
    if how.pruner.keep_inner:
        kept = torch.tensor([ceil_fraction(inner, shape.intermediate_size)], device=device)
        mlp = MlpPlan(channels, inner_kept=kept)
    angles = random(1, size, dtype=torch.float32)
    new = NewTokens(random(1, heads + 2 * kv_heads, size), angles.cos(), angles.sin(), size**-0.5)
    slot = torch.tensor([context - 1], device=device)
    block = KVBlock(keys, values, None, None, None, codes, scales)
    for _ in range(REPEATS if device != "cpu" else 1):
        add_and_norm(residual, torch.bfloat16)
        query = rotate_and_write(new, (keys, values), None, slot, PAGE_SIZE, (codes, scales))
        attend(query, [block], plan, dtype=torch.bfloat16)
        fused_gated_mlp(residual, weights, mlp)


def _measure(shape: ModelShape, action: Action, context: int, how: Mechanisms) -> dict[str, float]:
    """Mean microseconds of a launch, by kernel, after one warm-up round."""
    from torch.profiler import ProfilerActivity, profile

    run_layer(shape, action, context, "cuda", how)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run_layer(shape, action, context, "cuda", how)
        torch.cuda.synchronize()
    return {event.key: event.device_time for event in profiler.key_averages()}


def _binaries() -> list[Binary]:
    if importlib.util.find_spec("triton") is None:
        _log.warning("Triton is not installed: registers, spills and shared memory are left out")
        return []
    binaries = compile_in_child()
    if errors := _errors(binaries):
        (kernel, card), error = next(iter(errors.items()))
        raise RuntimeError(f"compiling {kernel} for {card} failed: {error}")
    return binaries


def _by_kernel(binaries: Sequence[Binary], measured: dict[str, float]) -> dict[str, dict[str, Any]]:
    table = {}
    for name in dict.fromkeys(binary.kernel for binary in binaries):
        mine = [binary for binary in binaries if binary.kernel == name]
        table[name] = {
            "registers": max(binary.registers for binary in mine),
            "spills": max(binary.spills for binary in mine),
            "shared_bytes": max(binary.shared_bytes for binary in mine),
            "measured_us": measured.get(name),
        }
    return table
