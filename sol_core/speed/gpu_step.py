"""One row's whole decode step on a GPU over random weights: its launches, counted; its time."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.gpu.triton_support import recorded_launches
from sol_core.actions import DENSE, PAPER, Action, Mechanisms
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.speed.random_model import ModelShape, random_cache, random_model

_WARM_UP, _STEPS = 8, 64


def count_launches(
    shape: ModelShape, action: Action, context: int, how: Mechanisms = PAPER
) -> dict[str, int]:
    """Kernels that a dense and a compressed step start one by one, our own and torch's."""
    counts = {}
    for name, chosen in (("dense", DENSE), ("compressed", action)):
        once, twice = (
            _count(
                dataclasses.replace(shape, num_layers=layers, vocab_size=8), chosen, context, how
            )
            for layers in (1, 2)
        )
        counts[name] = once + (shape.num_layers - 1) * (twice - once)
    return counts


def measure_steps(
    shape: ModelShape, action: Action, context: int, how: Mechanisms = PAPER
) -> dict[str, dict[str, float]]:
    """Mean milliseconds of a step on the CUDA device: ``alone`` and in a ``graph``."""
    lm, cache = _decoding(shape, context, "cuda", torch.bfloat16)
    graphs = lm.graphs
    times: dict[str, dict[str, float]] = {"dense": {}, "compressed": {}}
    for way, used in (("alone", None), ("graph", graphs)):
        lm.graphs = used
        for name, chosen in (("dense", DENSE), ("compressed", action)):
            cache.truncate(context)
            for _ in range(_WARM_UP):
                _step(lm, cache, chosen, how)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(_STEPS):
                _step(lm, cache, chosen, how)
            torch.cuda.synchronize()
            times[name][way] = 1000 * (time.perf_counter() - start) / _STEPS
    return times


def _count(shape: ModelShape, action: Action, context: int, how: Mechanisms = PAPER) -> int:
    with recorded_launches() as record:
        # In fp16, whose products a CPU leaves to torch as a GPU does those of bf16.
        lm, cache = _decoding(shape, context, "cpu", torch.float16)
        _step(lm, cache, action, how)  # makes the page bounds or 4-bit keys, once
        before, torch_kernels = len(record), _TorchKernels()
        with torch_kernels:
            _step(lm, cache, action, how)
        return len(record) - before + torch_kernels.count


def _step(lm: FrozenLM, cache: KVCache, action: Action, how: Mechanisms) -> Tensor:
    token = torch.zeros(1, dtype=torch.int64, device=lm.device)
    return lm.decode_step(token, cache, action, mechanisms=how).logits


def _decoding(
    shape: ModelShape, context: int, device: str, dtype: torch.dtype
) -> tuple[FrozenLM, KVCache]:
    """A model with random weights, and a cache of random keys."""
    room = _WARM_UP + _STEPS
    lm = random_model(shape, context + room, device=device, dtype=dtype)
    return lm, random_cache(lm, context, room)


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
