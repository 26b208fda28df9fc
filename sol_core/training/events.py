"""Contents of a training's ``WorkEvent``s (``progress.py``).

The row of a ``WorkProgress`` is ``{"step", "phase", "elapsed_s", "metrics"}``: step counts the
reports, metrics are finite numbers by their names in ``METRICS``. A run that goes on repeats the
reports since its last checkpoint, step and metrics alike; "preparing", which every start does, is
no report of the series and has no row.
The record of a ``WorkSample`` is a held-out text as the policy spends on it now: ``{"type":
"sample", "step", "context", "budget", "tokens"}``, one token per decode step with its text,
action (a value per axis) and kl (nats). The result is ``{"folder", "summary"}``: the
policy's folder (config.json, model.safetensors, README.md), held-out numbers and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sol_core.actions import AXES

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
    **{
        f"gap_{axis.short}": f"mean spend minus budget, {axis.term}, as a share of dense"
        for axis in AXES
    },
    "entropy": "mean entropy of the policy per axis, nats",
    "clip_fraction": "share of actions whose probability ratio was clipped",
    "decisions_per_s": "actions taken or labelled per second",
}


def gap_metrics(gaps: Iterable[float]) -> dict[str, float]:
    """Mean spend minus budget per axis, by the metrics' names."""
    return {f"gap_{axis.short}": gap for axis, gap in zip(AXES, gaps, strict=True)}
