"""Events of running training: frozen records, JSON-ready."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = [
    "METRICS",
    "TrainCheckpoint",
    "TrainEvent",
    "TrainFinished",
    "TrainProgress",
    "TrainSample",
    "TrainStopped",
    "train_event_to_dict",
]

Phase = Literal["preparing", "labelling", "warm start", "grpo", "calibrating", "measuring"]

# Name → what it is. Any of them may be missing from a report.
METRICS: dict[str, str] = {
    "loss": "training loss of the phase",
    "reward": "mean reward of the rollouts, nats per token",
    "kl": "held-out KL to the dense step, nats per token",
    "kl_static": "the same under static allocation at the same spend",
    "nll": "held-out negative log-likelihood, nats per token",
    "nll_static": "the same under static allocation at the same spend",
    "nll_dense": "the same, dense",
    "gap_keep": "mean spend minus budget, attention kept",
    "gap_channels": "mean spend minus budget, channels kept",
    "gap_bits": "mean spend minus budget, bits / 16",
    "entropy": "mean entropy of the policy per axis, nats",
    "clip_fraction": "share of actions whose probability ratio was clipped",
    "decisions_per_s": "actions taken or labelled per second",
}


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """One report.

    Attributes:
        phase: what is being done.
        step: number of reports so far, without those that say "preparing", which every start
            does. A run that goes on repeats the reports since its last checkpoint, number and
            metrics alike.
        fraction: of the whole run, in [0, 1].
        eta_s: estimate of the seconds left; None while unknown.
        metrics: numbers by their names in ``METRICS``; finite.
    """

    phase: Phase
    step: int
    fraction: float
    elapsed_s: float
    eta_s: float | None
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainSample:
    """A held-out text as the policy spends on it now.

    Attributes:
        tokens: one per decode step: text, action [keep, channels, bits], kl (nats).
    """

    step: int
    context: str
    budget: tuple[float, float, float]
    tokens: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class TrainCheckpoint:
    """A checkpoint is on disk: a run that dies now continues from here."""

    step: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TrainStopped:
    """``should_stop`` was obeyed; a checkpoint was written first."""

    step: int
    fraction: float


@dataclass(frozen=True, slots=True)
class TrainFinished:
    """The policy is in ``folder`` (config.json, model.safetensors, README.md).

    Attributes:
        summary: held-out numbers and counts, JSON-ready.
    """

    folder: str
    summary: dict[str, Any]


TrainEvent = TrainProgress | TrainSample | TrainCheckpoint | TrainStopped | TrainFinished

_NAMES: dict[type, str] = {
    TrainProgress: "progress",
    TrainSample: "sample",
    TrainCheckpoint: "checkpoint",
    TrainStopped: "stopped",
    TrainFinished: "finished",
}


def train_event_to_dict(event: TrainEvent) -> dict[str, Any]:
    """The record as a plain dict with its ``type``."""
    return {"type": _NAMES[type(event)], **asdict(event)}
