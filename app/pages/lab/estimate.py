"""Estimates of a job's time and memory, before it is started.

A sum of amounts over measured paces. It describes the default
model on two CPU cores and is labelled as an estimate; a running job reports its own time left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sol_core.evaluation.config import EvaluationConfig
from sol_core.training.config import (
    MEASURE_EVERY_S,
    MEASURE_REST,
    MEASURE_SHARE,
    PRICED_TEXTS,
    TrainConfig,
)

_BYTES_PER_MB = 1e6
MEASURED_WINDOWS, MEASURED_ROWS = 6, 3  # of each held-out text, as in training/measure.py


# Measured speeds of the default model on two CPU cores.
_PREFILL_TOKENS_PER_S = 500.0  # text read densely
_DECISIONS_PER_S = 200.0  # compressed decode steps, the dense reference included
_FIT_DECISIONS_PER_S = 8_000.0  # labelled decisions that the policy learns from, once each
_UPDATE_DECISIONS_PER_S = 3000.0  # decisions that one gradient pass of GRPO goes through
_MEASUREMENTS = 9  # how often held-out quality is measured in a run at least
_START_S = 8.0  # loading the model and the text
BASE_MB = 1300.0  # interpreter, libraries, the model's weights
_LABEL_BYTES = 2600.0  # kept per labelled decision
_CACHE_BYTES = 46_080.0  # keys and values per token
_ROW_BYTES = 800_000.0  # logits and activations per row of a rollout
_PREFILL_BYTES = 300_000.0  # activations and logits per token of a prefill
_PARAMETER_BYTES = 16.0  # per policy parameter: weight, gradient, two moments


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds by phase, in the order they happen, and peak memory in MB.

    Attributes:
        memory_mb: None where it is no concern.
        limited: the time limit ends the run before its updates do.
        amounts: work in words; empty where the phases say enough.
    """

    phases: dict[str, float]
    memory_mb: float | None = None
    limited: bool = False
    amounts: str = ""

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


def estimate(config: TrainConfig) -> Estimate:
    """The estimate for a valid configuration; with a time limit, phases are cut to it."""
    phases = {
        "Loading": _START_S,
        "Warm start": _warm_start_s(config),
        "Rollouts (GRPO)": _grpo_s(config),
        "Calibrating": _calibrating_s(config),
    }
    phases["Measuring"] = _measuring_s(config, sum(phases.values()))
    phases = {name: seconds for name, seconds in phases.items() if seconds > 0}
    limit = config.time_limit_minutes
    total = sum(phases.values())
    if limit is None or total <= 60 * limit:
        return Estimate(phases, _memory_mb(config))
    scale = 60 * limit / total
    cut = {name: seconds * scale for name, seconds in phases.items()}
    return Estimate(cut, _memory_mb(config), limited=True)


def evaluation_estimate(config: EvaluationConfig, num_policies: int) -> Estimate:
    """The estimate of an evaluation; policies, then baselines, read every text once."""
    tokens = config.num_rollouts * config.steps
    methods = num_policies * (1 + config.sampled) + 2 + config.num_random
    methods += len(config.signals) + config.paper
    decisions = tokens * len(config.budgets) * methods
    phases = {
        "Loading": _START_S,
        "Reading": 2 * config.texts * (config.block_len - config.steps) / _PREFILL_TOKENS_PER_S,
        "Scoring": decisions / _DECISIONS_PER_S,
    }
    amounts = (
        f"{tokens:,} scored tokens for every method and budget, {decisions:,} decisions in all. "
        "Gains of 0.01 nats need about 20,000 tokens."
    )
    return Estimate(phases, amounts=amounts)


def _warm_start_s(config: TrainConfig) -> float:
    warm = config.warm_start
    decisions = _labelled_decisions(config)
    labelling = warm.texts * config.block_len / _PREFILL_TOKENS_PER_S
    labelling += decisions / _DECISIONS_PER_S
    return labelling + decisions * warm.epochs / _FIT_DECISIONS_PER_S


def _grpo_s(config: TrainConfig) -> float:
    grpo = config.grpo
    decisions = grpo.windows * grpo.rollouts * config.steps
    update = config.block_len / _PREFILL_TOKENS_PER_S
    update += decisions / _DECISIONS_PER_S
    update += decisions * grpo.epochs / _UPDATE_DECISIONS_PER_S
    return grpo.updates * update


def _calibrating_s(config: TrainConfig) -> float:
    """Greedy episodes on every window: twice on the texts that set prices, once on the rest."""
    texts = PRICED_TEXTS + config.calibration_texts
    rows = (2 * PRICED_TEXTS + config.calibration_texts) * config.windows
    prefill = texts * config.block_len / _PREFILL_TOKENS_PER_S
    return prefill + rows * config.steps / _DECISIONS_PER_S


def _measuring_s(config: TrainConfig, working_s: float) -> float:
    """Policy and static on every window of the held-out texts, which are read once."""
    texts = config.held_out_texts
    decisions = 2 * MEASURED_ROWS * min(config.windows, MEASURED_WINDOWS) * config.steps
    once = texts * decisions / _DECISIONS_PER_S
    rest = max(MEASURE_EVERY_S, once * MEASURE_REST)
    longer = max(1.0, working_s * MEASURE_SHARE / rest)  # from then on the rests grow
    times = max(_MEASUREMENTS, working_s / rest / longer + math.log(longer) / MEASURE_SHARE)
    return texts * config.block_len / _PREFILL_TOKENS_PER_S + times * once


def _labelled_decisions(config: TrainConfig) -> int:
    warm = config.warm_start
    return warm.texts * config.windows * warm.schedules * config.steps


def _memory_mb(config: TrainConfig) -> float:
    grpo, warm = config.grpo, config.warm_start
    rows = max(
        grpo.windows * grpo.rollouts if grpo.updates else 0,
        config.windows * warm.schedules if warm.texts else 0,
    )
    rollout = rows * (_ROW_BYTES + config.steps * _CACHE_BYTES)
    prefill = config.block_len * (_CACHE_BYTES + _PREFILL_BYTES)
    labels = _labelled_decisions(config) * _LABEL_BYTES
    network = 12 * config.policy.width**2 * _PARAMETER_BYTES
    return BASE_MB + (rollout + prefill + labels + network) / _BYTES_PER_MB
