"""Tunes the CPU kernels, once per machine and model; no result depends on the tuning."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kernels.cpu.threads import AHEAD, Tuning, default_tuning, kernel_threads
from kernels.decode_layer import few_row_kernel
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.files.paths import read_json_object
from sol_core.files.staging import replacing
from sol_core.models.devices import cpu_name
from sol_core.models.step.times import StepTimes
from sol_core.models.step_timing import can_time_steps, measure_step_times

if TYPE_CHECKING:
    from sol_core.models.decoder import FrozenLM
    from sol_core.models.loading import LanguageModel

TUNING = "measuring what suits this CPU"
TUNING_VARIABLE = "SOL_CPU_TUNING"  # "threads,ahead" instead of the measured tuning
_FILE = "tuning.json"
_MOST_TURNS = 10  # per choice
_TURN_SECONDS = 0.03
_SECONDS = 1.2  # per race, after which a last round ends; there are two or three races
_LEAST_GAIN = 0.03  # fraction of the time; a smaller gain is noise, and the default stays
_LEAST_BUSY = 0.85  # least fraction of the threads' time on a core; else other programs decide
_QUICK_STEPS_MS = 100.0  # for one step of each of _ACTIONS
_MECHANISMS = GRIDS["default"].mechanisms
_ACTIONS = (DENSE, Action(0.5, 0.6, 16))  # they read memory in different orders
_CAPACITY = 512  # tokens


@dataclass(frozen=True, slots=True)
class MeasuredTuning:
    """The fastest tuning of a model, and the step times behind it."""

    model: str  # name at the time
    threads: int  # threads, ahead: as in Tuning
    ahead: int
    step_ms: dict[str, float]
    times: StepTimes | None = None


def tuning_folder(data_dir: Path) -> Path:
    """Return the folder of the tunings, which is that of the compiled kernels."""
    compiled = os.environ.get("NUMBA_CACHE_DIR", "").strip()
    return Path(compiled) if compiled else data_dir / "cache"


def tune(model: LanguageModel, data_dir: Path, on_measure: Callable[[], None]) -> None:
    """Set a model's tuning from the variable, else measured; on a busy machine the default."""
    lm, folder = model.lm, tuning_folder(data_dir)
    text = os.environ.get(TUNING_VARIABLE, "").strip()
    if text:
        lm.tuning = _from_text(text)
        return
    if lm.device.type != "cpu" or few_row_kernel() is None:
        return
    weights = f"{model.fingerprint[:8]} {model.dtype_name}"
    known = stored_tunings(folder).get(weights)
    if known is None and lm.steps_are_quantised is not None:
        on_measure()
        known = _measure(model)
        if known is not None:
            _store(folder, weights, known)
    lm.tuning = None if known is None else Tuning(known.threads, known.ahead)
    if known is not None and known.times is None and _is_soon_timed(lm, known):
        on_measure()
        known = replace(known, times=measure_step_times(lm))
        _store(folder, weights, known)
    lm.step_times = None if known is None else known.times


def _is_soon_timed(lm: FrozenLM, known: MeasuredTuning) -> bool:
    """Return whether steps can be timed within seconds."""
    return can_time_steps(lm) and min(known.step_ms.values()) < _QUICK_STEPS_MS


def stored_tunings(folder: Path) -> dict[str, MeasuredTuning]:
    """Return the tunings measured on this CPU with this many threads, by weights."""
    record = read_json_object(folder / _FILE).get(machine_name())
    try:
        return {
            name: from_json(MeasuredTuning, values) for name, values in dict(record or {}).items()
        }
    except (ConfigError, TypeError, ValueError):  # edited, or from another version
        return {}


def _measure(model: LanguageModel) -> MeasuredTuning | None:
    """Measure the fastest choice; None if other programs used the cores meanwhile."""
    lm = model.lm
    threads, quantised = kernel_threads(), bool(lm.steps_are_quantised)
    first = default_tuning(threads, quantised=quantised)
    run, step_ms = _steps(lm), dict[str, float]()

    def fastest(choices: Sequence[Tuning]) -> Tuning:
        times = _race(run, choices)
        step_ms.update(
            {f"{tuning.threads},{tuning.ahead}": round(1e3 * times[tuning], 3) for tuning in times}
        )
        best = min(choices, key=times.__getitem__)
        return best if times[best] < (1 - _LEAST_GAIN) * times[choices[0]] else choices[0]

    begin, used = time.perf_counter(), time.process_time()
    best = fastest([first._replace(ahead=ahead) for ahead in AHEAD[quantised]])
    busy = (time.process_time() - used) / (threads * (time.perf_counter() - begin))
    if busy < _LEAST_BUSY:
        return None
    fewer = sorted({threads - threads // 4, threads - threads // 2, 1} - {threads}, reverse=True)
    best = fastest([best, *(best._replace(threads=count) for count in fewer)])
    if best != first:  # again, in case another program interfered
        best = fastest([first, best])
    return MeasuredTuning(model.name, *best, step_ms)


def _steps(lm: FrozenLM) -> Callable[[Tuning], None]:
    capacity = min(_CAPACITY, lm.spec.max_positions)
    cache, token = lm.new_cache(1, capacity), torch.zeros(1, dtype=torch.int64)

    def run(tuning: Tuning) -> None:
        nonlocal cache
        if max(cache.lengths) + len(_ACTIONS) > capacity:
            cache = lm.new_cache(1, capacity)
        lm.tuning = tuning
        for action in _ACTIONS:
            lm.decode_step(token, cache, action, mechanisms=_MECHANISMS)

    return run


def _race(run: Callable[[Tuning], None], choices: Sequence[Tuning]) -> dict[Tuning, float]:
    """Return each choice's shortest step, seconds, without a turn's first, with cold threads."""
    run(choices[0])  # compiles, and touches memory for the first time
    times = dict.fromkeys(choices, math.inf)
    begin = time.perf_counter()
    for _ in range(_MOST_TURNS):
        for choice in choices:
            run(choice)
            turn = time.perf_counter()
            while True:
                started = time.perf_counter()
                run(choice)
                now = time.perf_counter()
                times[choice] = min(times[choice], now - started)
                if now - turn > _TURN_SECONDS:
                    break
        if time.perf_counter() - begin > _SECONDS:
            break
    return times


def _from_text(text: str) -> Tuning:
    with contextlib.suppress(ValueError):
        threads, ahead = map(int, text.split(","))
        if 1 <= threads <= 1024 and 1 <= ahead <= 64:
            return Tuning(threads, ahead)
    raise ConfigError(
        f"{TUNING_VARIABLE} must be threads (1 to 1024) and pieces asked for ahead (1 to 64), "
        f'such as "2,4", got {text[:40]!r}'
    )


def machine_name() -> str:
    """Return what a CPU's sums depend on besides the dtype: its kind and the threads."""
    return f"{cpu_name()}, {kernel_threads()} threads"


def _store(folder: Path, name: str, measured: MeasuredTuning) -> None:
    """Store a tuning; if that fails, it is measured again next time."""
    known = {cpu: asdict(values) for cpu, values in stored_tunings(folder).items()}
    kept = read_json_object(folder / _FILE) | {machine_name(): known | {name: asdict(measured)}}
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _FILE) as staged:
            staged.write_text(json.dumps(kept, indent=1), encoding="utf-8")
