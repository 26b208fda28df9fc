"""Training: damage labels, a warm start on them, GRPO on rollouts, checkpoints.

A trained policy's own code is in ``sol_core.policy``, the texts in ``sol_core.corpus``.

``train`` is looked up when it is first asked for: the page reads configurations and must not
import torch.
"""

from typing import TYPE_CHECKING, Any

from sol_core.training.config import (
    METRICS,
    PRESETS,
    GrpoConfig,
    TrainConfig,
    WarmStartConfig,
    for_minutes,
    preset,
)

if TYPE_CHECKING:
    from sol_core.training.trainer import train

__all__ = [
    "METRICS",
    "PRESETS",
    "GrpoConfig",
    "TrainConfig",
    "WarmStartConfig",
    "for_minutes",
    "preset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":
        from sol_core.training.trainer import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
