"""``bench decode``: single-stream tokens per second: ours, transformers', llama.cpp's, the floor.

They never share a process: each loads torch its own way and its own thread pools,
and whichever came second would pay for the first. Rounds alternate between a worker
per contestant, so that a machine whose speed drifts slows both; medians are reported.
Every ratio is of measurements of one round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sol_core.actions import DEFAULT_GRID
from sol_core.errors import ConfigError, SolError
from sol_core.models.tuning import cpu_name
from sol_core.speed.bandwidth import measure_read_bandwidth

BUDGETS = (0.75, 0.5, 0.3)
SPARSE = (0.3, 0.6)  # attention and MLP, where more is saved than at half of both
DENSE = (1.0, 1.0)
LONG_CONTEXTS = (2048, 8192)  # where the half and the sparse budget are measured against dense
THEIRS, LLAMA_CPP = "transformers", "llama_cpp"
NODE_PACKAGE = "node-llama-cpp"  # llama.cpp ready to run, from npm; its own builds suit the CPU
TRANSFORMERS_DTYPES = ("float32", "bfloat16")
Report = Callable[[str, float], None]
Rates = dict[str, list[float]]
POLICY_PAIRS = 4  # a round: a few percent of a step are told from noise by more pairs
COMPILERS = ("g++", "clang++")  # what torch.compile needs on a CPU


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of the measurement.

    Attributes:
        model_folder: local folder of the model (both sides read it).
        dtype: of our decode; auto is what the app uses.
        context: prompt tokens before the first measured step, but for the half budget's.
        new_tokens: tokens per round and contestant.
        rounds: alternating rounds.
        policy_folder: of a policy whose own cost is measured; None for none.
        grid: name of the grid whose mechanisms are measured.
        llama_cpp: folder where ``npm install node-llama-cpp`` was run; None: not measured.
        gguf: the file that llama.cpp reads, of the same weights.
        compiled: also measure transformers under ``torch.compile`` with its static cache;
            None: where there is a C++ compiler. Compiling takes a minute or two a dtype.
    """

    model_folder: Path
    dtype: str = "auto"
    context: int = 256
    new_tokens: int = 48
    rounds: int = 5
    policy_folder: Path | None = None
    compiled: bool | None = None
    grid: str = DEFAULT_GRID
    llama_cpp: Path | None = None
    gguf: Path | None = None

    def __post_init__(self) -> None:
        for name in ("context", "new_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.llama_cpp is None:
            return
        if not (self.llama_cpp / "node_modules" / NODE_PACKAGE).is_dir() or not shutil.which(
            "node"
        ):
            raise ConfigError(
                f"llama_cpp must be a folder where 'npm install {NODE_PACKAGE}' was run, with "
                f"Node.js on the PATH, got {self.llama_cpp}"
            )
        if self.gguf is None:
            raise ConfigError("llama.cpp reads GGUF files, and this model has none")


class _Contestant(NamedTuple):
    """One contestant: its side and its schedule.

    ``side`` is "ours", "transformers", "compiled" (transformers, compiled) or "llama_cpp"; ``kind``
    is "fixed" (a budget), "policy" or "replay" (its actions).
    """

    side: str
    dtype: str
    kind: str
    budget: tuple[float, float]
    context: int


def bench_decode(options: BenchOptions, on_progress: Report) -> dict[str, Any]:
    """Measure and return a JSON-ready record.

    Keys: ``tokens_per_s`` by contestant (dense, budget_…, dense_2048, half_2048 and so on,
    policy, replay, transformers and transformers_compiled by dtype, llama_cpp, llama_cpp_2048 and
    so on), ``ratio_to_transformers`` (dense over its best dtype, compiled or not),
    ``ratio_to_llama_cpp``, ``ratio_to_llama_cpp_2048`` and ``ratio_to_llama_cpp_8192`` (dense over
    llama.cpp on the same context, its own sampling included; null where it was not measured),
    ``half_budget_speedup`` and ``half_budget_speedup_8192`` (keep and channel budget 0.5 over
    dense at 2,048 and 8,192 tokens; null where the model's context is shorter),
    ``sparse_speedup`` and ``sparse_speedup_8192`` (likewise of ``SPARSE``), ``grid``,
    ``policy_overhead`` (share of a step with the policy that the same actions without it save,
    observing included; null without a policy), ``bandwidth_gb_s`` (measured read),
    ``floor_tokens_per_s`` (that bandwidth over the dense step's bytes), ``bandwidth_share``
    (dense over that floor), ``overhead_ms`` (dense step minus the floor's time), ``cpu`` and
    ``tuning`` (of its kernels: threads, pieces ahead; null for the default). Ratios are medians
    of per-round ratios.
    """
    bandwidth = measure_read_bandwidth()
    ours = _Worker("ours", options.dtype, options, on_progress)
    workers = {("ours", options.dtype): ours}
    try:
        for side in _their_sides(options):
            for dtype in TRANSFORMERS_DTYPES:
                workers[side, dtype] = _Worker(side, dtype, options, on_progress)
        if options.llama_cpp is not None:
            workers[LLAMA_CPP, ""] = _Worker(LLAMA_CPP, "", options, on_progress)
        contestants = _contestants(options, int(ours.ready["max_context"]))
        rates: Rates = {name: [] for name in contestants}
        order = _order(contestants)
        total = options.rounds * len(order)
        for done in range(total):
            turn, place = divmod(done, len(order))
            name = order[place] if turn % 2 == 0 else order[-1 - place]
            contestant = contestants[name]
            worker = workers[contestant.side, contestant.dtype]
            rates[name].append(worker.measure(contestant))
            on_progress(f"{name}: {rates[name][-1]:.1f} tokens/s", (done + 1) / total)
    finally:
        for worker in workers.values():
            worker.close()
    return _summary(rates, bandwidth, ours.ready, options)


def _contestants(options: BenchOptions, max_context: int) -> dict[str, _Contestant]:
    def ours(kind: str, budget: float | tuple[float, float], context: int) -> _Contestant:
        pair = budget if isinstance(budget, tuple) else (budget, budget)
        return _Contestant("ours", options.dtype, kind, pair, context)

    found = {"dense": ours("fixed", 1.0, options.context)}
    for budget in BUDGETS:
        found[f"budget_{budget:g}"] = ours("fixed", budget, options.context)
    for context in LONG_CONTEXTS:
        # The last tokens of the context are the ones that are decoded.
        start = context - options.new_tokens - 1 if context == max_context else context
        if 0 < start + options.new_tokens < max_context:
            found[f"dense_{context}"] = ours("fixed", 1.0, start)
            found[f"half_{context}"] = ours("fixed", 0.5, start)
            found[f"sparse_{context}"] = ours("fixed", SPARSE, start)
            if options.llama_cpp is not None:
                found[f"{LLAMA_CPP}_{context}"] = _Contestant(LLAMA_CPP, "", "fixed", DENSE, start)
    if options.policy_folder is not None:
        found["policy"] = ours("policy", 0.5, options.context)
        found["replay"] = ours("replay", 0.5, options.context)
    for side in _their_sides(options):
        for dtype in TRANSFORMERS_DTYPES:
            prefix = THEIRS if side == THEIRS else f"{THEIRS}_{side}"
            found[f"{prefix}_{dtype}"] = _Contestant(side, dtype, "fixed", DENSE, options.context)
    if options.llama_cpp is not None:
        found[LLAMA_CPP] = _Contestant(LLAMA_CPP, "", "fixed", DENSE, options.context)
    return found


def _order(contestants: dict[str, _Contestant]) -> list[str]:
    """A round's names; every other round is run from its end."""
    pair = [name for name in ("policy", "replay") if name in contestants]
    return [*contestants, *pair * (POLICY_PAIRS - 1)]


def _their_sides(options: BenchOptions) -> tuple[str, ...]:
    is_possible = any(shutil.which(compiler) for compiler in COMPILERS)
    wanted = is_possible if options.compiled is None else options.compiled
    return (THEIRS, "compiled") if wanted else (THEIRS,)


def _summary(
    rates: Rates, bandwidth: float, ready: dict[str, Any], options: BenchOptions
) -> dict[str, Any]:
    theirs = [values for name, values in rates.items() if name.startswith(THEIRS)]
    best_of_theirs = [max(values) for values in zip(*theirs, strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    floor = bandwidth * 1e9 / ready["dense_bytes"]
    slower = _ratio(rates, "policy", "replay")
    return {
        "tokens_per_s": medians,
        "tokens_per_s_rounds": rates,
        "ratio_to_transformers": statistics.median(
            mine / best for mine, best in zip(rates["dense"], best_of_theirs, strict=True)
        ),
        "ratio_to_llama_cpp": _ratio(rates, "dense", LLAMA_CPP),
        "ratio_to_llama_cpp_2048": _ratio(rates, "dense_2048", f"{LLAMA_CPP}_2048"),
        "ratio_to_llama_cpp_8192": _ratio(rates, "dense_8192", f"{LLAMA_CPP}_8192"),
        "half_budget_speedup": _ratio(rates, "half_2048", "dense_2048"),
        "half_budget_speedup_8192": _ratio(rates, "half_8192", "dense_8192"),
        "sparse_speedup": _ratio(rates, "sparse_2048", "dense_2048"),
        "sparse_speedup_8192": _ratio(rates, "sparse_8192", "dense_8192"),
        "grid": options.grid,
        "policy_overhead": None if slower is None else 1 - slower,
        "bandwidth_gb_s": bandwidth,
        "floor_tokens_per_s": floor,
        "bandwidth_share": medians["dense"] / floor,
        "dense_bytes_per_token": ready["dense_bytes"],
        "overhead_ms": 1000 / medians["dense"] - 1000 / floor,
        "dtype": ready["dtype"],
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "tuning": ready["tuning"],
        "context": options.context,
        "new_tokens": options.new_tokens,
        "rounds": options.rounds,
    }


def _ratio(rates: Rates, upper: str, lower: str) -> float | None:
    """Median of the rounds' ratios of two contestants; None where one did not run."""
    if upper not in rates or lower not in rates:
        return None
    return statistics.median(one / two for one, two in zip(rates[upper], rates[lower], strict=True))


def _worker(side: str, dtype: str, options: BenchOptions) -> list[str]:
    policy = "" if options.policy_folder is None else str(options.policy_folder)
    module = [sys.executable, "-m", "sol_core.speed.decode_worker", side, dtype]
    places = [str(options.model_folder), policy]
    return [*module, *places, str(options.context), str(options.new_tokens), options.grid]


def _llama_cpp(options: BenchOptions) -> list[str]:
    script = Path(__file__).with_name("llama_cpp_worker.mjs")
    longest = max(options.context, *LONG_CONTEXTS)
    numbers = (torch.get_num_threads(), options.new_tokens, longest)
    return ["node", str(script), str(options.llama_cpp), str(options.gguf), *map(str, numbers)]


class _Worker:
    """A child process with one model, measuring on request.

    Attributes:
        ready: what it said about its model when it was ready.
    """

    def __init__(self, side: str, dtype: str, options: BenchOptions, on_progress: Report) -> None:
        on_progress(f"loading {' in '.join(filter(None, (side, dtype)))}", 0.0)
        environment = dict(os.environ)
        if side != "ours":  # each side as it runs by itself
            environment.pop("GOMP_SPINCOUNT", None)
        command = _llama_cpp(options) if side == LLAMA_CPP else _worker(side, dtype, options)
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        self.ready = self._read()

    def measure(self, contestant: _Contestant) -> float:
        """Tokens per second of one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(contestant[2:]) + "\n")
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
