"""``bench decode``: single-stream tokens per second: ours, transformers', llama.cpp's, the floor.

Each runs in a process of its own, in alternating rounds; ratios are of measurements of one round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.bench.random_model import check_shape
from sol_core.actions import DEFAULT_GRID
from sol_core.errors import ConfigError, SolError
from sol_core.models.devices import cpu_name
from sol_core.progress import Progress

THEIRS, LLAMA_CPP = "transformers", "llama_cpp"
Rates = dict[str, list[float]]
DENSE = (1.0, 1.0)
SHARES = (0.65, 0.5)  # of the dense step's bytes
LONG_CONTEXTS = (2048, 7800)  # measured beside the options' context, where they fit the model
NODE_PACKAGE = "node-llama-cpp"  # llama.cpp ready to run, from npm; its own builds suit the CPU
TRANSFORMERS_DTYPES = ("float32", "bfloat16")
_MEGABYTES = 512  # far beyond any cache
_REPEATS = 7
COMPILED_DTYPE = "bfloat16"  # a minute of compiling; float32 was never the best
POLICY_BUDGET = (0.8, 0.8)  # a share of the bytes; κ and ρ on a grid without mixes
POLICY_PAIRS = 4  # a round: a few percent of a step are told from noise by more pairs
THEIR_ROUNDS = 3  # at most: one of theirs takes as long as three of ours
COMPILERS = ("g++", "clang++")  # what torch.compile needs on a CPU


def mix_name(mix: dict[str, Any]) -> str:
    """The same name for the same action: where a share is out of reach, the lowest is run once."""
    action = f"{mix['keep_fraction']:g}_{mix['channel_keep_ratio']:g}"
    return f"mix_{action}_{mix['context']}"


def mix_rows(rates: Rates, mixes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The static mixes beside their own dense."""
    rows = []
    for mix in mixes:
        name = mix_name(mix)
        speedup = _ratio(rates, name, f"dense_{mix['context']}")
        assert speedup is not None
        rate = statistics.median(rates[name])
        rows.append(
            {**mix, "tokens_per_s": rate, "speedup": speedup, "of_ideal": speedup * mix["share"]}
        )
    return rows


def summary(rates: Rates, bandwidth: float, ready: dict[str, Any]) -> dict[str, Any]:
    """The record of ``bench_decode``, but for its options."""
    theirs = [values for name, values in rates.items() if name.startswith(THEIRS)]
    best_of_theirs = [max(values) for values in zip(*theirs, strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    contexts = {mix["context"]: mix["dense_bytes"] for mix in ready["mixes"]}
    first, read = next(iter(contexts.items()))
    dense = f"dense_{first}"
    floor = bandwidth * 1e9 / read
    against = {context: f"{LLAMA_CPP}_{context}" for context in contexts}
    slower = _ratio(rates, "policy", "replay")
    return {
        "dense": [
            {"context": context, "bytes": size, "tokens_per_s": medians[f"dense_{context}"]}
            for context, size in contexts.items()
        ],
        "mixes": mix_rows(rates, ready["mixes"]),
        "tokens_per_s": medians,
        "tokens_per_s_rounds": rates,
        "ratio_to_transformers": _ratio(rates | {THEIRS: best_of_theirs}, dense, THEIRS),
        "ratio_to_llama_cpp": {
            str(context): _ratio(rates, f"dense_{context}", name)
            for context, name in against.items()
            if name in rates
        },
        "policy_overhead": None if slower is None else 1 - slower,
        "bandwidth_gb_s": bandwidth,
        "floor_tokens_per_s": floor,
        "bandwidth_share": medians[dense] / floor,
        "overhead_ms": 1000 / medians[dense] - 1000 / floor,
        "storage": ready["storage"],
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "tuning": ready["tuning"],
    }


def _ratio(rates: Rates, upper: str, lower: str) -> float | None:
    """Median of the rounds' ratios of two contestants; None where one did not run."""
    pairs = list(zip(rates.get(upper, ()), rates.get(lower, ()), strict=False))
    return statistics.median(above / below for above, below in pairs) if pairs else None


@dataclass(frozen=True, slots=True)
class BenchOptions:
    model_folder: Path | None  # local folder of the model (both sides read it); None for a shape
    dtype: str = "auto"  # of our decode; auto is what the app uses
    context: int = 256  # prompt tokens before the first measured step, beside ``LONG_CONTEXTS``
    new_tokens: int = 24  # tokens per round and contestant
    rounds: int = 5  # alternating rounds
    policy_folder: Path | None = None  # of a policy whose own cost is measured; None for none
    compiled: bool = True  # also transformers under torch.compile, where there is a compiler
    grid: str = DEFAULT_GRID  # name of the grid whose mechanisms are measured
    llama_cpp: Path | None = None  # folder where ``npm install node-llama-cpp`` was run
    gguf: Path | None = None  # the file that llama.cpp reads, of the same weights
    shape: str | None = None  # a model of random weights instead, as ``shape_from_text`` takes it
    storage: str = "bf16"  # number format of those weights, one of ``STORAGES``

    def __post_init__(self) -> None:
        for name in ("context", "new_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.shape is not None:
            check_shape(self.shape, self.storage)
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
    """A side and its schedule: "fixed" (κ and ρ), "policy" or "replay" (the policy's actions)."""

    side: str
    dtype: str
    kind: str
    action: tuple[float, float]
    context: int


def bench_decode(options: BenchOptions, on_progress: Progress) -> dict[str, Any]:
    bandwidth = measure_read_bandwidth()
    ours = _Worker("ours", options.dtype, options, on_progress)
    workers = {("ours", options.dtype): ours}
    try:
        for side, dtype in _their_sides(options):
            workers[side, dtype] = _Worker(side, dtype, options, on_progress)
        if options.llama_cpp is not None:
            workers[LLAMA_CPP, ""] = _Worker(LLAMA_CPP, "", options, on_progress)
        contestants = _contestants(options, ours.ready["mixes"])
        rates: Rates = {name: [] for name in contestants}
        turns = [name for turn in range(options.rounds) for name in _order(contestants, turn)]
        for done, name in enumerate(turns, 1):
            contestant = contestants[name]
            worker = workers[contestant.side, contestant.dtype]
            rates[name].append(worker.measure(contestant))
            on_progress(f"{name}: {rates[name][-1]:.1f} tokens/s", done / len(turns))
    finally:
        for worker in workers.values():
            worker.close()
    asked = {name: getattr(options, name) for name in ("grid", "shape", "new_tokens", "rounds")}
    return {**summary(rates, bandwidth, ours.ready), **asked}


def _contestants(options: BenchOptions, mixes: list[dict[str, Any]]) -> dict[str, _Contestant]:
    def ours(kind: str, action: tuple[float, float], context: int) -> _Contestant:
        return _Contestant("ours", options.dtype, kind, action, context)

    contestants, contexts = {}, list(dict.fromkeys(mix["context"] for mix in mixes))
    for context in contexts:
        contestants[f"dense_{context}"] = ours("fixed", DENSE, context)
        if options.llama_cpp is not None:
            name = f"{LLAMA_CPP}_{context}"
            contestants[name] = _Contestant(LLAMA_CPP, "", "fixed", DENSE, context)
    for mix in mixes:
        action = (mix["keep_fraction"], mix["channel_keep_ratio"])
        contestants[mix_name(mix)] = ours("fixed", action, mix["context"])
    first = contexts[0]
    if options.policy_folder is not None and options.shape is None:
        contestants["policy"] = ours("policy", POLICY_BUDGET, first)
        contestants["replay"] = ours("replay", POLICY_BUDGET, first)
    for side, dtype in _their_sides(options):
        prefix = THEIRS if side == THEIRS else f"{THEIRS}_{side}"
        contestants[f"{prefix}_{dtype}"] = _Contestant(side, dtype, "fixed", DENSE, first)
    return contestants


def _order(contestants: dict[str, _Contestant], turn: int) -> list[str]:
    """A round's names; every other round is run from its end."""
    pair = [name for name in ("policy", "replay") if name in contestants]
    names = [
        name
        for name, contestant in contestants.items()
        if contestant.side == "ours" or turn < THEIR_ROUNDS
    ]
    names += pair * (POLICY_PAIRS - 1)
    return names if turn % 2 == 0 else names[::-1]


def _their_sides(options: BenchOptions) -> list[tuple[str, str]]:
    if options.shape is not None:
        return []
    sides = [(THEIRS, dtype) for dtype in TRANSFORMERS_DTYPES]
    if options.compiled and any(shutil.which(compiler) for compiler in COMPILERS):
        sides.append(("compiled", COMPILED_DTYPE))
    return sides


def _command(side: str, dtype: str, options: BenchOptions) -> list[str]:
    contexts = list(dict.fromkeys((options.context, *LONG_CONTEXTS)))
    if side == LLAMA_CPP:
        script = Path(__file__).with_name("llama_cpp_worker.mjs")
        numbers = (torch.get_num_threads(), options.new_tokens, max(contexts))
        return ["node", *map(str, (script, options.llama_cpp, options.gguf, *numbers))]
    given = {**asdict(options), "dtype": dtype, "contexts": contexts, "shares": SHARES}
    given_json = json.dumps(given, default=str)
    return [sys.executable, "-m", f"{__package__}.decode_worker", side, given_json]


class _Worker:
    """A child process with one model, measuring on request."""

    def __init__(self, side: str, dtype: str, options: BenchOptions, on_progress: Progress) -> None:
        on_progress(f"loading {' in '.join(filter(None, (side, dtype)))}", 0.0)
        environment = dict(os.environ)
        if side != "ours":  # each side as it runs by itself
            environment.pop("GOMP_SPINCOUNT", None)
        self._process = subprocess.Popen(
            _command(side, dtype, options),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        try:
            self.ready = self._read()  # what it said about its model when it was ready
        except BaseException:
            self.close()
            raise

    def measure(self, contestant: _Contestant) -> float:
        """Tokens per second of one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(contestant[2:]) + "\n")
        self._process.stdin.flush()
        return float(self._read()["tokens_per_s"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()  # which closes its pipes

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SolError("a benchmark worker ended early; its error is printed above")
        record: dict[str, Any] = json.loads(line)
        return record


def measure_read_bandwidth() -> float:
    """Best of several sums over a large array, all threads, in GB/s (1e9 bytes)."""
    array = torch.ones(_MEGABYTES * 2**20 // 4)
    best = 0.0
    for _ in range(_REPEATS):
        start = time.perf_counter()
        array.sum()
        best = max(best, array.nbytes / (time.perf_counter() - start))
    return best / 1e9
