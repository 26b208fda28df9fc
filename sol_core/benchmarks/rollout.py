"""``bench rollout``: decisions per second of batched rollouts, beside their compute floor.

A decision is one row's decode step. The floor is the time that the step's matrix products
alone would take: all FLOPs of a dense step over the rate at which *this machine, now*
multiplies matrices of exactly these shapes. Both are measured in turns within one run, so
that a machine whose speed drifts slows both; medians over the rounds are reported.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sol_core.actions import Action, ActionGrid
from sol_core.batch_scheduling import RowSchedulers
from sol_core.cache import KVCache
from sol_core.decoding import DecodeOptions, decode
from sol_core.errors import ConfigError
from sol_core.loading import LanguageModel
from sol_core.models import FrozenLM, ModelSpec
from sol_core.schedules import FixedScheduler

__all__ = ["RolloutOptions", "bench_rollout", "step_flops"]

# What one round of training spends its time on, in order; each is a method of ``_Bench``.
# The policy's time and the update's belong here, as two more.
PHASES = ("prefill", "dense_reference", "rollout")
Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """What is measured.

    Attributes:
        context: prefilled tokens of each text.
        rows: schedules decoded at once, over all texts.
        steps: decode steps of a rollout.
        group: schedules per text, which share its prefix.
        rounds: alternating rounds of floor and phases.
        seed: of tokens and actions.
    """

    context: int = 256
    rows: int = 64
    steps: int = 16
    group: int = 16
    rounds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("context", "rows", "steps", "group", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.rows % self.group:
            raise ConfigError(
                f"rows must be a multiple of the group ({self.group} schedules per text), "
                f"got {self.rows}; ask for {self.rows + -self.rows % self.group} rows, or "
                "another group"
            )


def bench_rollout(
    model: LanguageModel, options: RolloutOptions, on_progress: Report
) -> dict[str, Any]:
    """Measure and return a JSON-ready record.

    Keys: ``decisions_per_s`` (``rollout`` alone; ``with_prefill_and_reference``),
    ``floor_decisions_per_s``, ``ratio_to_floor`` (rollout over floor, median of per-round
    ratios), ``gemm_gflops`` (measured at the step's shapes), ``gflop_per_decision``,
    ``seconds`` by phase (medians), and the settings.
    Raises: ConfigError when the texts do not fit the model's context.
    """
    needed = options.context + options.steps
    if needed > model.context_length:
        raise ConfigError(
            f"context and steps need {needed} tokens, {model.name} has {model.context_length}"
        )
    lm = model.lm
    bench = _Bench(lm, options)
    on_progress("warming up", 0.0)
    bench.run_phases()
    bench.seconds_of_products()
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    products: list[float] = []
    for number in range(options.rounds):
        # One look at the floor before the phases and one after.
        around = [bench.seconds_of_products()]
        for phase, seconds in bench.run_phases().items():
            times[phase].append(seconds)
        around.append(bench.seconds_of_products())
        products.append(statistics.fmean(around))
        rate = options.rows * options.steps / times["rollout"][-1]
        on_progress(f"{rate:.0f} decisions/s", (number + 1) / options.rounds)
    return _summary(model, options, times, products)


def step_flops(spec: ModelSpec, context: int) -> tuple[float, float]:
    """FLOPs of one row's dense decode step: its weights' products, and its attention.

    Args:
        context: tokens attended over.
    """
    per_layer = spec.hidden_size * (spec.query_width + 2 * spec.kv_width)
    per_layer += spec.query_width * spec.hidden_size
    per_layer += 3 * spec.hidden_size * spec.intermediate_size
    weights = 2.0 * (spec.num_layers * per_layer + spec.hidden_size * spec.vocab_size)
    seen = sum(min(context, window or context) for window in spec.windows)
    return weights, 4.0 * spec.query_width * seen


def _summary(
    model: LanguageModel,
    options: RolloutOptions,
    times: dict[str, list[float]],
    products: list[float],
) -> dict[str, Any]:
    decisions = options.rows * options.steps
    weights, attention = step_flops(model.spec, options.context + options.steps // 2)
    rates = [options.rows * weights / seconds for seconds in products]
    floors = [rate / (weights + attention) for rate in rates]
    ratios = [
        decisions / seconds / floor for seconds, floor in zip(times["rollout"], floors, strict=True)
    ]
    whole = [sum(phases) for phases in zip(*times.values(), strict=True)]
    return {
        "decisions_per_s": {
            "rollout": decisions / statistics.median(times["rollout"]),
            "with_prefill_and_reference": decisions / statistics.median(whole),
        },
        "floor_decisions_per_s": statistics.median(floors),
        "ratio_to_floor": statistics.median(ratios),
        "gemm_gflops": statistics.median(rates) / 1e9,
        "gflop_per_decision": (weights + attention) / 1e9,
        "seconds": {phase: statistics.median(values) for phase, values in times.items()},
        "dtype": model.dtype_name,
        "threads": torch.get_num_threads(),
        "context": options.context,
        "rows": options.rows,
        "steps": options.steps,
        "group": options.group,
        "rounds": options.rounds,
        "seed": options.seed,
    }


class _Bench:
    """One round's data, and its phases."""

    def __init__(self, lm: FrozenLM, options: RolloutOptions) -> None:
        self._lm = lm
        self._options = options
        generator = torch.Generator().manual_seed(options.seed)
        shape = (options.rows // options.group, options.context + options.steps)
        self._tokens = torch.randint(lm.spec.vocab_size, shape, generator=generator).to(lm.device)
        draw, grid = random.Random(options.seed), ActionGrid()
        self._schedules = [
            [_random_action(grid, draw) for _ in range(options.steps)] for _ in range(options.rows)
        ]
        self._inputs: dict[int, torch.Tensor] = {}

    def run_phases(self) -> dict[str, float]:
        """Seconds of each of ``PHASES``, on fresh caches."""
        texts, context = self._tokens.shape[0], self._options.context
        cache = self._lm.new_cache(texts, context)
        phases: dict[str, Callable[[], None]] = {
            "prefill": lambda: self._prefill(cache),
            "dense_reference": lambda: self._reference(cache),
            "rollout": lambda: self._rollout(cache),
        }
        seconds = {}
        for phase in PHASES:
            start = time.perf_counter()
            phases[phase]()
            seconds[phase] = time.perf_counter() - start
        return seconds

    def seconds_of_products(self) -> float:
        """One decode step's products with the weights, and nothing else."""
        weights = [
            linear.weight
            for layer in self._lm.weights.layers
            for linear in (
                layer.query_key_value,
                layer.attention_output,
                layer.gate_up,
                layer.down,
            )
        ]
        weights.append(self._lm.weights.head.weight)
        for size in {weight.shape[0] for weight in weights} - self._inputs.keys():
            rows = torch.randn(self._options.rows, size, device=self._lm.device)
            self._inputs[size] = rows.to(self._lm.dtype)
        start = time.perf_counter()
        for weight in weights:
            torch.mm(self._inputs[weight.shape[0]], weight)
        return time.perf_counter() - start

    def _prefill(self, cache: KVCache) -> None:
        self._lm.prefill(self._tokens[:, : self._options.context], cache)

    def _reference(self, cache: KVCache) -> None:
        """Dense distributions of the steps to come, in one pass over them."""
        dense = cache.branch(1, self._options.steps)
        hidden = self._lm.prefill(self._tokens[:, self._options.context :], dense)
        torch.log_softmax(self._lm.logits(hidden), dim=-1)

    def _rollout(self, cache: KVCache) -> None:
        options, start = self._options, self._options.context
        steps = decode(
            self._lm,
            cache,
            self._tokens[:, start].tolist(),
            RowSchedulers([FixedScheduler(actions) for actions in self._schedules]),
            lambda step: (
                self._tokens[:, min(start + step.index + 1, start + options.steps - 1)]
                .flatten()
                .tolist()
            ),
            DecodeOptions(options.steps, rows_per_sequence=options.group),
        )
        for _ in steps:
            pass


def _random_action(grid: ActionGrid, draw: random.Random) -> Action:
    return Action(
        draw.choice(grid.keep_fractions),
        draw.choice(grid.channel_keep_ratios),
        draw.choice(grid.bit_widths),
    )
