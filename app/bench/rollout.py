"""``bench rollout``: decisions per second of the trainer's rollouts, beside their compute floor.

A decision is one row's decode step in an update of GRPO. The floor is the time that a dense step's
FLOPs take at the rate at which this machine, in the same run, multiplies matrices of these shapes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action
from sol_core.decoding.batch_scheduling import BatchScheduler, StepObservation, StepReads
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import ScoredStep
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM
from sol_core.models.devices import cpu_name
from sol_core.models.loading import LanguageModel
from sol_core.models.spec import WeightBytes
from sol_core.progress import Progress
from sol_core.training.config import GrpoConfig, TrainConfig
from sol_core.training.grpo import grpo_update, sample_rollouts
from sol_core.training.run_state import RunState
from sol_core.training.text_prefill import Rollout, TextPrefill, prefill_text

# Parts of an update's time. "rollout" is the language model's decode steps alone.
PHASES = ("prefill", "rollout", "policy", "dense_reference", "update")


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """Size of the update that a rollout benchmark measures."""

    context: int = 256  # dense tokens before the first window
    rows: int = 64  # schedules decoded at once, over all windows
    steps: int = 16  # decode steps of a window
    group: int = 16  # schedules per window, which share its prefix
    rounds: int = 5  # alternating rounds of floor and update
    grid: str = DEFAULT_GRID  # name of the levels and mechanisms, as presets have them

    def __post_init__(self) -> None:
        for name in ("context", "rows", "steps", "group", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.rows % self.group:
            raise ConfigError(
                f"rows must be a multiple of the group ({self.group} schedules per window), "
                f"got {self.rows}; ask for {self.rows + -self.rows % self.group} rows, or "
                "another group"
            )

    @property
    def windows(self) -> int:
        return self.rows // self.group

    def training(self) -> TrainConfig:
        """The run whose update is measured."""
        return TrainConfig(
            context=self.context,
            windows=self.windows,
            steps=self.steps,
            grid=GRIDS[self.grid],
            grpo=GrpoConfig(windows=self.windows, rollouts=self.group),
        )


def bench_rollout(
    model: LanguageModel, options: RolloutOptions, on_progress: Progress
) -> dict[str, Any]:
    """Measure a training update, beside the time of its matrix products alone."""
    config = options.training()
    if config.block_len - 1 > model.context_length:
        raise ConfigError(
            f"context and {options.windows} windows of {options.steps} steps need "
            f"{config.block_len - 1} tokens, {model.name} has {model.context_length}"
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(model, options, RunState(model, config, Path(folder), Path(folder)))
    on_progress("warming up", 0.0)
    bench.update()
    bench.seconds_of_products()
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    products: list[float] = []
    for number in range(options.rounds):
        # One look at the floor before the update and one after.
        around = [bench.seconds_of_products()]
        for phase, seconds in bench.update().items():
            times[phase].append(seconds)
        around.append(bench.seconds_of_products())
        products.append(statistics.fmean(around))
        rate = options.rows * options.steps / times["rollout"][-1]
        on_progress(f"{rate:.0f} decisions/s", (number + 1) / options.rounds)
    return _summary(model, options, times, products)


def _summary(
    model: LanguageModel,
    options: RolloutOptions,
    times: dict[str, list[float]],
    products: list[float],
) -> dict[str, Any]:
    decisions = options.rows * options.steps
    text_tokens = options.context + options.windows * options.steps
    cost = CostModel(model.spec, WeightBytes.unpacked(model.spec, 1), 1)
    weights = cost.decode_step(DENSE, 0).flops  # nothing to attend to
    whole_step = cost.decode_step(DENSE, (options.context + text_tokens) // 2).flops
    rates = [options.rows * weights / seconds for seconds in products]
    floors = [rate / whole_step for rate in rates]
    ratios = [
        decisions / seconds / floor for seconds, floor in zip(times["rollout"], floors, strict=True)
    ]
    totals = [sum(phases) for phases in zip(*times.values(), strict=True)]
    shares = [
        policy / (policy + rollout)
        for policy, rollout in zip(times["policy"], times["rollout"], strict=True)
    ]
    return {
        "decisions_per_s": decisions / statistics.median(times["rollout"]),
        "decisions_per_s_total": decisions / statistics.median(totals),
        "floor_decisions_per_s": statistics.median(floors),
        "ratio_to_floor": statistics.median(ratios),
        "policy_share": statistics.median(shares),
        "gemm_gflops": statistics.median(rates) / 1e9,
        "gflop_per_decision": whole_step / 1e9,
        "seconds": {phase: statistics.median(values) for phase, values in times.items()},
        "dtype": model.dtype_name,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "text_tokens": text_tokens,
        "windows": options.windows,
        **asdict(options),
    }


class _Clock:
    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began


class _TimedScheduler:
    def __init__(self, scheduler: BatchScheduler, clock: _Clock) -> None:
        self._scheduler, self._clock = scheduler, clock
        self.observes = scheduler.observes

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        with self._clock.of("policy"):
            return self._scheduler.next_actions(observation)

    def reads(self) -> Sequence[StepReads]:
        return self._scheduler.reads()


@dataclass(frozen=True)
class _TimedText(TextPrefill):
    """The trainer's text, with the clock around what is not decoding."""

    clock: _Clock

    def rollout(
        self, starts: Sequence[int], rows_per_start: int, scheduler: BatchScheduler
    ) -> Rollout:
        timed = _TimedScheduler(scheduler, self.clock)
        return TextPrefill.rollout(self, starts, rows_per_start, timed)

    def _score(self, scored: ScoredStep, first: Tensor) -> tuple[Tensor, ...]:
        with self.clock.of("dense_reference"):
            return TextPrefill._score(self, scored, first)


class _Bench:
    """An update of the trainer and the products of one decode step, again and again."""

    def __init__(self, model: LanguageModel, options: RolloutOptions, state: RunState) -> None:
        self._lm: FrozenLM = model.lm
        self._options, self._state = options, state
        generator = torch.Generator().manual_seed(0)
        count = state.config.block_len
        self._tokens = torch.randint(model.spec.vocab_size, (count,), generator=generator).tolist()
        self._inputs: dict[int, Tensor] = {}

    def update(self) -> dict[str, float]:
        """Seconds of each of ``PHASES``."""
        clock, state = _Clock(), self._state
        with clock.of("prefill"):
            text = prefill_text(self._lm, self._tokens, state.config)
        timed = _TimedText(text.lm, text.config, text.tokens, text.cache, text.output, clock)
        generator = torch.Generator().manual_seed(0)
        with clock.of("rollout"):
            batch = sample_rollouts(state.policy, timed, state.config, generator)
        with clock.of("update"):
            grpo_update(state, batch)
        clock.seconds["rollout"] -= clock.seconds["policy"] + clock.seconds["dense_reference"]
        return {phase: clock.seconds[phase] for phase in PHASES}

    def seconds_of_products(self) -> float:
        """Time one decode step's products with the weights, and nothing else."""
        linears = list(self._lm.batch_weights.matrices())
        for size in {linear.weight.shape[0] for linear in linears} - self._inputs.keys():
            rows = torch.randn(self._options.rows, size, device=self._lm.device)
            self._inputs[size] = rows.to(self._lm.dtype)
        start = time.perf_counter()
        for linear in linears:
            linear(self._inputs[linear.weight.shape[0]])
        return time.perf_counter() - start
