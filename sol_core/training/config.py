"""Configuration of a training run: frozen, grouped, stored with the run and its checkpoints.

Amounts are counts, never minutes, so that a seed decides the policy's bytes; a time limit
only ends a run early. Every field carries a one-line ``help`` that the page shows.

Of a run's ``WorkEvent``s (``progress.py``), the row of a ``WorkProgress`` is ``{"step", "phase",
"elapsed_s", "metrics"}``: step counts the reports, metrics are finite numbers by their names in
``METRICS``. A run that goes on repeats the reports since its last checkpoint, step and metrics
alike; "preparing", which every start does, is no report of the series and has no row.
The record of a ``WorkSample`` is a held-out text as the policy spends on it now: ``{"type":
"sample", "step", "context", "budget", "tokens"}``, one token per decode step with its text,
action (a value per axis) and kl (nats). The result is ``{"folder", "summary"}``: the
policy's folder (config.json, model.safetensors, README.md), held-out numbers and counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal

from sol_core.actions import AXES, DEFAULT_GRID, GRIDS, ActionGrid, Record
from sol_core.corpus.documents import check_corpus
from sol_core.errors import ConfigError
from sol_core.fields import Range, Seed, changed, check_fields, check_kind, configuration, setting
from sol_core.policy.info import MAX_POLICY_STEPS, PolicyConfig

Phase = Literal["preparing", "labelling", "warm start", "grpo", "calibrating", "measuring"]
GAPS = tuple(f"gap_{axis.short}" for axis in AXES)  # the metrics of mean spend minus budget
# Name → what it is. Any of them may be missing from a report.
METRICS: dict[str, str] = {
    "loss": "training loss of the phase",
    "reward": "mean reward of the rollouts, nats per token",
    "kl": "held-out KL to the dense step, nats per token",
    "kl_static": "the same under static allocation at the same spend",
    "kl_gain_low": "low end of the 95 % interval of kl_static minus kl",
    "kl_gain_high": "its high end",
    "scored_tokens": "held-out tokens that these are over",
    "nll": "held-out negative log-likelihood, nats per token",
    "nll_static": "the same under static allocation at the same spend",
    "nll_dense": "the same, dense",
    **{
        name: f"mean spend minus budget, {axis.term}, as a fraction of dense"
        for name, axis in zip(GAPS, AXES, strict=True)
    },
    "entropy": "mean entropy of the policy per axis, nats",
    "clip_fraction": "fraction of actions whose probability ratio was clipped",
    "decisions_per_s": "actions taken or labelled per second",
}
# Held-out quality is measured every minute, later every thirtieth of the time worked so far, but
# for no more than a quarter of the time.
MEASURE_EVERY_S, MEASURE_FRACTION = 60.0, 1 / 30
MEASURE_REST = 3.0  # times as long as the measurement before, at least
MEASURES_PER_PHASE = 4  # at least, whatever the clock says
PRICED_TEXTS = 4  # texts that a finished policy plays to set its prices
SCHEDULES = 2  # random ones that label every window of a text
# When a phase ends at the latest, as fractions of a time limit; calibrating has the rest.
LABEL_END, WARM_END, GRPO_END = 0.55, 0.65, 0.9
# Far above any use, so that a number typed wrongly cannot queue a job that never ends.
MAX_ROUNDS = 10_000_000  # texts of the warm start, updates of GRPO
MAX_MINUTES = 525_600.0  # a year
Count = Annotated[int, Range(1, 10_000)]


@configuration
@dataclass(frozen=True, slots=True)
class WarmStartConfig:
    """Learning damage from counterfactuals: random schedules from every window of a text at
    once, each decode step labelled with its KL to the dense step.
    """

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"schedules": 2, "weight_decay": 0.1}

    texts: Annotated[int, Range(0, MAX_ROUNDS)] = setting(
        90, "texts to label; 0 skips the warm start (GRPO alone)"
    )
    epochs: Count = setting(2, "passes over the labelled tokens; more make it too sure of itself")
    learning_rate: Annotated[float, Range(1e-7, 1.0)] = setting(1e-3, "peak step size of AdamW")

    def __post_init__(self) -> None:
        check_fields(self, "warm_start")


@configuration
@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """GRPO on teacher-forced rollouts (SOL, arXiv:2605.10875, section 4)."""

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {
        "texts": 1,
        "discount": 0.85,
        "clip": 0.2,
        "epochs": 2,
        "damage_weight": 1.0,
        "max_gradient_norm": 1.0,
        "penalty": 100.0,
        "tolerance": 0.02,
    }

    updates: Annotated[int, Range(0, MAX_ROUNDS)] = setting(
        60, "policy updates; 0 skips GRPO (warm start alone)"
    )
    windows: Count = setting(4, "starting points in a text, whose prefill serves all")
    rollouts: Annotated[int, Range(2, 10_000)] = setting(16, "schedules compared on each text (G)")
    reward: Literal["kl", "nll"] = setting(
        "kl", "kl: minus KL to the dense step (low noise); nll: log-likelihood"
    )
    entropy_bonus: Annotated[float, Range(0.0, 10.0)] = setting(0.003, "reward for staying random")
    temperature: Annotated[float, Range(0.01, 100.0)] = setting(
        1.0, "sampling temperature of actions"
    )
    learning_rate: Annotated[float, Range(1e-8, 1.0)] = setting(1e-4, "step size of AdamW")
    pace: Literal["falling", "constant"] = setting(
        "falling", "falling: the step size goes to zero over the updates; constant: not"
    )
    whitening: Literal["group", "batch"] = setting(
        "group", "advantages are divided by the deviation of their group or batch"
    )
    budget: Literal["price", "penalty"] = setting(
        "price", "price: spending costs its price; penalty: the paper's squared gap"
    )

    def __post_init__(self) -> None:
        check_fields(self, "grpo")


@configuration
@dataclass(frozen=True, slots=True)
class TrainConfig(Record):
    """Settings that decide a trained policy besides the model and the machine.

    The method is the paper's (arXiv:2605.10875): GRPO on rollouts, here after a warm start.

    Attributes: see each field's help.
    Raises: ConfigError for a value that is not allowed.
    """

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"checkpoint_seconds": Real}  # left no trace

    corpus: str = setting(
        "builtin",
        "builtin, papers, a text file or folder, or a Hub data set owner/name:config:part:column",
    )
    seed: Seed = setting(0, "same seed, machine and threads: same policy")
    context: Annotated[int, Range(16, 1_000_000)] = setting(
        128, "dense tokens before a text's first decode step"
    )
    windows: Count = setting(24, "episodes cut from each text, all on one dense prefill")
    last_context: Annotated[int, Range(16, 1_000_000)] | None = setting(
        None,
        "dense tokens before a text's last episode, the others' growing in equal "
        "ratios; empty: episodes follow one another",
    )
    steps: Annotated[int, Range(2, MAX_POLICY_STEPS)] = setting(
        16, "decode steps of an episode (T)"
    )
    grid: ActionGrid = setting(GRIDS[DEFAULT_GRID], "levels each axis may take")
    policy: PolicyConfig = setting(PolicyConfig(), "the policy network")
    warm_start: WarmStartConfig = setting(WarmStartConfig(), "damage learnt from counterfactuals")
    grpo: GrpoConfig = setting(GrpoConfig(), "GRPO on rollouts")
    held_out_texts: Count = setting(6, "unseen texts for the quality shown while training")
    calibration_texts: Count = setting(
        12, "texts that the prices of shares of the bytes are measured on"
    )
    shares_from: Literal["corpus", "papers"] = setting(
        "corpus",
        "texts whose bytes set the prices of shares: the corpus's, or Qasper's papers, of a "
        "kind that the policy never learnt from",
    )
    time_limit_minutes: Annotated[float, Range(0.01, MAX_MINUTES)] | None = setting(
        None, "end early after this time; empty: run all updates"
    )

    def __post_init__(self) -> None:
        check_corpus(self.corpus)
        check_fields(self)
        if self.last_context is not None and self.last_context <= self.context:
            raise ConfigError(
                f"last_context must be above context = {self.context}, got {self.last_context}"
            )
        if self.warm_start.texts == 0 and self.grpo.updates == 0:
            raise ConfigError("nothing to do: warm_start.texts and grpo.updates are both 0")
        if all(len(levels) == 1 for levels in self.grid.levels()):
            raise ConfigError("nothing to choose: every axis of the grid has one level")

    @property
    def block_len(self) -> int:
        """Tokens of one text: its context, its windows, the last token to be predicted."""
        return self.starts[-1] + self.steps + 1

    @property
    def starts(self) -> list[int]:
        """Position of each window's first token to feed."""
        if self.last_context is None or self.windows == 1:
            return [self.context + window * self.steps for window in range(self.windows)]
        ratio = (self.last_context / self.context) ** (1 / (self.windows - 1))
        return [round(self.context * ratio**window) for window in range(self.windows)]

    @property
    def measured_texts(self) -> int:
        """Held-out texts to measure on: a short run has the time for fewer."""
        limit = self.time_limit_minutes
        return self.held_out_texts if limit is None else min(self.held_out_texts, math.ceil(limit))


# At contexts from a short question's to a long text's, and a network so small that its own time and
# bytes are not worth a thought.
_OURS: dict[str, Any] = {
    "context": 16,
    "last_context": 2032,
    "policy": PolicyConfig(width=16, num_heads=2, concentration=False),
}
PRESETS: dict[str, TrainConfig] = {
    "quick": TrainConfig(
        **_OURS,
        # Two passes over so few labels leave the policy where it began, which is static.
        warm_start=WarmStartConfig(texts=25, epochs=3),
        grpo=GrpoConfig(updates=15),
        held_out_texts=4,
        calibration_texts=4,
    ),
    "standard": TrainConfig(
        **_OURS,
        warm_start=WarmStartConfig(texts=130, epochs=14, learning_rate=2e-3),
        grpo=GrpoConfig(updates=30, learning_rate=3e-4),
        calibration_texts=20,
        shares_from="papers",
    ),
    "paper": TrainConfig(
        grid=GRIDS["paper"],
        context=512,
        windows=2,
        policy=PolicyConfig(network="joint", width=512, dropout=0.0),
        warm_start=WarmStartConfig(texts=0),
        grpo=GrpoConfig(
            updates=2000,
            windows=2,
            reward="nll",
            budget="penalty",
            entropy_bonus=0.05,
            temperature=1.3,
            pace="constant",
            whitening="batch",
        ),
    ),
}
# How long a preset takes on two CPU cores, minutes; quick took 5.4 on a Xeon with AMX, 1 December.
NOMINAL_MINUTES = {"quick": 5.0, "standard": 39.0, "paper": 135.0}


def for_minutes(config: TrainConfig, preset_name: str, minutes: float) -> TrainConfig:
    """A preset's configuration for another length: more work for more time, and a time limit."""
    if not 0.01 <= minutes <= MAX_MINUTES:
        raise ConfigError(f"minutes must be between 0.01 and {MAX_MINUTES:,.0f}, got {minutes!r}")
    factor = max(1.0, minutes / NOMINAL_MINUTES[preset_name])
    changes = {
        "warm_start": {"texts": math.ceil(config.warm_start.texts * factor)},
        "grpo": {"updates": math.ceil(config.grpo.updates * factor)},
        "time_limit_minutes": minutes,
    }
    return changed(config, changes)


def preset(name: str, **changes: Any) -> TrainConfig:
    """A preset by name, with fields replaced.

    Args:
        name: quick, standard or paper (the recipe of
            arXiv:2605.10875).
        changes: fields of ``TrainConfig`` with other values; those of a nested configuration may be
            a dict of changes, as in ``grpo={"updates": 3}``.
    Raises: ConfigError for an unknown name, and for values that are not allowed.
    """
    check_kind("preset", name, str, "a preset's name")
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return changed(PRESETS[name], changes)
