"""``bench decode``: single-stream tokens per second, ours and transformers', and the floor.

The two never share a process: each loads torch its own way and its own thread pools,
and whichever came second would pay for the first. Rounds alternate between a worker
per contestant, so that a machine whose speed drifts slows both; medians are reported.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sol_core.actions import Action
from sol_core.benchmarks.bandwidth import measure_read_bandwidth
from sol_core.cost import CostModel
from sol_core.errors import ConfigError, SolError
from sol_core.loading import LanguageModel, load_language_model

__all__ = ["BenchOptions", "bench_decode"]

BUDGETS = (0.75, 0.5, 0.3)
TRANSFORMERS_DTYPES = ("float32", "bfloat16")
Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured.

    Attributes:
        model_folder: local folder of the model (both sides read it).
        dtype: of our decode; auto is what the app uses.
        context: prompt tokens before the first measured step.
        new_tokens: tokens per round and contestant.
        rounds: alternating rounds.
    """

    model_folder: Path
    dtype: str = "auto"
    context: int = 256
    new_tokens: int = 48
    rounds: int = 5

    def __post_init__(self) -> None:
        for name in ("context", "new_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")


def bench_decode(options: BenchOptions, on_progress: Report) -> dict[str, Any]:
    """Measure and return a JSON-ready record.

    Keys: ``tokens_per_s`` by schedule (dense, 0.75, 0.5, 0.3, transformers by dtype),
    ``ratio_to_transformers`` (dense over its best dtype, median of per-round ratios),
    ``bandwidth_gb_s`` (measured read), ``floor_tokens_per_s`` (that bandwidth over the
    dense step's bytes), ``overhead_ms`` (dense step minus the floor's time).
    """
    bandwidth = measure_read_bandwidth()
    contestants = {
        "dense": ("ours", options.dtype, 1.0),
        **{f"budget_{budget:g}": ("ours", options.dtype, budget) for budget in BUDGETS},
        **{f"transformers_{d}": ("transformers", d, 1.0) for d in TRANSFORMERS_DTYPES},
    }
    workers: dict[tuple[str, str], _Worker] = {}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    try:
        for side, dtype, _ in contestants.values():
            if (side, dtype) not in workers:
                on_progress(f"loading {side} in {dtype}", 0.0)
                workers[side, dtype] = _Worker(side, dtype, options)
        total = options.rounds * len(contestants)
        for done in range(total):
            name = list(contestants)[done % len(contestants)]
            side, dtype, budget = contestants[name]
            rates[name].append(workers[side, dtype].measure(budget))
            on_progress(f"{name}: {rates[name][-1]:.1f} tokens/s", (done + 1) / total)
        dense_bytes = workers["ours", options.dtype].dense_bytes
        dtype_used = workers["ours", options.dtype].dtype
    finally:
        for worker in workers.values():
            worker.close()
    return _summary(rates, bandwidth, dense_bytes, dtype_used, options)


def _summary(
    rates: dict[str, list[float]],
    bandwidth: float,
    dense_bytes: float,
    dtype: str,
    options: BenchOptions,
) -> dict[str, Any]:
    best_of_theirs = [
        max(values)
        for values in zip(*(rates[f"transformers_{d}"] for d in TRANSFORMERS_DTYPES), strict=True)
    ]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    floor = bandwidth * 1e9 / dense_bytes
    return {
        "tokens_per_s": medians,
        "tokens_per_s_rounds": rates,
        "ratio_to_transformers": statistics.median(
            ours / theirs for ours, theirs in zip(rates["dense"], best_of_theirs, strict=True)
        ),
        "bandwidth_gb_s": bandwidth,
        "floor_tokens_per_s": floor,
        "dense_bytes_per_token": dense_bytes,
        "overhead_ms": 1000 / medians["dense"] - 1000 / floor,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "context": options.context,
        "new_tokens": options.new_tokens,
        "rounds": options.rounds,
    }


class _Worker:
    """A child process with one model, measuring on request."""

    def __init__(self, side: str, dtype: str, options: BenchOptions) -> None:
        arguments = [side, dtype, str(options.model_folder)]
        arguments += [str(options.context), str(options.new_tokens)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sol_core.benchmarks.decode", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        ready = self._read()
        self.dense_bytes = float(ready["dense_bytes"])
        self.dtype = str(ready["dtype"])

    def measure(self, budget: float) -> float:
        """Tokens per second of one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{budget}\n")
        self._process.stdin.flush()
        return float(self._read()["tokens_per_s"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SolError("a benchmark worker ended early; its error is printed above")
        record: dict[str, Any] = json.loads(line)
        return record


def _measure_ours(model: LanguageModel, context: int, new_tokens: int, budget: float) -> float:
    """Our decode loop's step, greedy, one row."""
    action = Action(budget, budget) if budget < 1 else Action()
    lm = model.lm
    cache = lm.new_cache(1, context + new_tokens)
    lm.prefill(_prompt(context), cache)
    token = torch.tensor([1])
    start = time.perf_counter()
    for _ in range(new_tokens):
        token = lm.decode_step(token, cache, action).logits.argmax(-1)
    return new_tokens / (time.perf_counter() - start)


def _measure_transformers(model: Any, context: int, new_tokens: int) -> float:
    """``generate`` with its prefill's time taken out by a run of one token."""

    def run(count: int) -> float:
        start = time.perf_counter()
        model.generate(
            _prompt(context),
            attention_mask=torch.ones(1, context, dtype=torch.long),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
        )
        return time.perf_counter() - start

    return new_tokens / (run(new_tokens + 1) - run(1))


def _prompt(context: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(100, 10_000, (1, context), generator=generator)


def _serve_measurements(arguments: list[str]) -> None:
    """The child process: one JSON line when ready, then one per budget read from stdin."""
    side, dtype, folder, context, new_tokens = arguments
    measure: Callable[[float], float]
    ready: dict[str, Any] = {"dense_bytes": 0.0, "dtype": dtype}
    if side == "ours":
        ours = load_language_model(folder, data_dir=Path(folder), dtype=dtype, device="cpu")
        size = ours.lm.dtype.itemsize
        cost = CostModel(ours.spec, size, size).decode_step(Action(), int(context))
        ready = {"dense_bytes": cost.bytes_read, "dtype": ours.dtype_name}

        def measure(budget: float) -> float:
            return _measure_ours(ours, int(context), int(new_tokens), budget)
    else:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))

        def measure(budget: float) -> float:
            return _measure_transformers(theirs, int(context), int(new_tokens))

    measure(1.0)  # warm up: caches, lazy initialisation
    _reply(ready)
    for line in sys.stdin:
        _reply({"tokens_per_s": measure(float(line))})


def _reply(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve_measurements(sys.argv[1:])
