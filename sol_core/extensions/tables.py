"""Tables of the parts that are chosen by name; ours stand there as places, to import nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sol_core.extensions.registry import Registry


@dataclass(frozen=True, slots=True)
class ExtraInputs:
    """Numbers that a policy sees beside its usual inputs.

    Attributes:
        size: of them per row.
        values: of a ``StepObservation`` of R rows → [R, size] fp32; None where there are none.
    """

    size: int
    values: Callable[..., Any] | None = None


NETWORKS = Registry(
    "policy network",
    {
        "factored": "sol_core.policy.network:DamageNetwork",
        "joint": "sol_core.policy.network:JointNetwork",
    },
)
OBSERVATIONS = Registry("observation", {"standard": ExtraInputs(0)})
REWARDS = Registry(
    "reward",
    {"kl": "sol_core.training.rewards:kl_reward", "nll": "sol_core.training.rewards:nll_reward"},
)
CORPORA = Registry("corpus", {})
SCHEDULES = Registry("schedule", {}, reserved=("dense", "static", "random", "emc", "dac", "policy"))
