"""Estimates of a training run's time and memory, before it is started.

A sum of amounts over measured paces; every constant is in ``Paces``. It describes the default
model on two CPU cores and is labelled as an estimate; a running job reports its own time left.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol_core.training.config import PRICED_TEXTS, TrainConfig

_BYTES_PER_MB = 1e6
MEASURED_WINDOWS, MEASURED_ROWS = 6, 3  # of each held-out text, as in training/measure.py


@dataclass(frozen=True, slots=True)
class Paces:
    """Measured speeds of the default model on two CPU cores.

    Attributes:
        prefill_tokens_per_s: text read densely.
        decisions_per_s: compressed decode steps, the dense reference included.
        fit_decisions_per_s: labelled decisions that the policy learns from, once each.
        update_decisions_per_s: decisions that one gradient pass of GRPO goes through.
        measurements: how often held-out quality is measured in a run.
        start_s: loading the model and the text.
        base_mb: interpreter, libraries, the model's weights.
        label_bytes: kept per labelled decision.
        cache_bytes: keys and values per token.
        row_bytes: logits and activations per row of a rollout.
        prefill_bytes: activations and logits per token of a prefill.
        parameter_bytes: per policy parameter: weight, gradient, two moments.
    """

    prefill_tokens_per_s: float = 500.0
    decisions_per_s: float = 200.0
    fit_decisions_per_s: float = 8_000.0
    update_decisions_per_s: float = 3000.0
    measurements: int = 8
    start_s: float = 8.0
    base_mb: float = 1300.0
    label_bytes: float = 2600.0
    cache_bytes: float = 46_080.0
    row_bytes: float = 800_000.0
    prefill_bytes: float = 300_000.0
    parameter_bytes: float = 16.0


PACES = Paces()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds by phase, in the order they happen, and peak memory in MB.

    Attributes:
        limited: the time limit ends the run before its updates do.
    """

    phases: dict[str, float]
    memory_mb: float
    limited: bool = False

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


def estimate(config: TrainConfig, paces: Paces = PACES) -> Estimate:
    """The estimate for a valid configuration; with a time limit, phases are cut to it."""
    phases = {
        "Loading": paces.start_s,
        "Warm start": _warm_start_s(config, paces),
        "GRPO": _grpo_s(config, paces),
        "Calibrating": _calibrating_s(config, paces),
        "Measuring": _measuring_s(config, paces),
    }
    phases = {name: seconds for name, seconds in phases.items() if seconds > 0}
    limit = config.time_limit_minutes
    total = sum(phases.values())
    if limit is None or total <= 60 * limit:
        return Estimate(phases, _memory_mb(config, paces))
    scale = 60 * limit / total
    cut = {name: seconds * scale for name, seconds in phases.items()}
    return Estimate(cut, _memory_mb(config, paces), limited=True)


def _warm_start_s(config: TrainConfig, paces: Paces) -> float:
    warm = config.warm_start
    decisions = _labelled_decisions(config)
    labelling = warm.texts * config.block_len / paces.prefill_tokens_per_s
    labelling += decisions / paces.decisions_per_s
    return labelling + decisions * warm.epochs / paces.fit_decisions_per_s


def _grpo_s(config: TrainConfig, paces: Paces) -> float:
    grpo = config.grpo
    decisions = grpo.windows * grpo.rollouts * config.steps
    update = config.block_len / paces.prefill_tokens_per_s
    update += decisions / paces.decisions_per_s
    update += decisions * grpo.epochs / paces.update_decisions_per_s
    return grpo.updates * update


def _calibrating_s(config: TrainConfig, paces: Paces) -> float:
    """Greedy episodes on every window: twice on the texts that set prices, once on the rest."""
    texts = PRICED_TEXTS + config.calibration_texts
    rows = (2 * PRICED_TEXTS + config.calibration_texts) * config.windows
    prefill = texts * config.block_len / paces.prefill_tokens_per_s
    return prefill + rows * config.steps / paces.decisions_per_s


def _measuring_s(config: TrainConfig, paces: Paces) -> float:
    """Policy and static on every window of the held-out texts."""
    decisions = 2 * MEASURED_ROWS * min(config.windows, MEASURED_WINDOWS) * config.steps
    once = config.block_len / paces.prefill_tokens_per_s + decisions / paces.decisions_per_s
    return paces.measurements * config.held_out_texts * once


def _labelled_decisions(config: TrainConfig) -> int:
    warm = config.warm_start
    return warm.texts * config.windows * warm.schedules * config.steps


def _memory_mb(config: TrainConfig, paces: Paces) -> float:
    grpo, warm = config.grpo, config.warm_start
    rows = max(
        grpo.windows * grpo.rollouts if grpo.updates else 0,
        config.windows * warm.schedules if warm.texts else 0,
    )
    rollout = rows * (paces.row_bytes + config.steps * paces.cache_bytes)
    prefill = config.block_len * (paces.cache_bytes + paces.prefill_bytes)
    labels = _labelled_decisions(config) * paces.label_bytes
    network = 12 * config.policy.width**2 * paces.parameter_bytes
    return paces.base_mb + (rollout + prefill + labels + network) / _BYTES_PER_MB
