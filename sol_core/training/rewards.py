"""Rewards of a step: what GRPO makes more of, before prices (METHOD 5)."""

from __future__ import annotations

from torch import Tensor

from sol_core.errors import ConfigError
from sol_core.extensions import REWARDS
from sol_core.training.windows import StepScores


def kl_reward(scores: StepScores) -> Tensor:
    """Minus KL to the dense step, nats: [R]."""
    return -scores.kl


def nll_reward(scores: StepScores) -> Tensor:
    """Log-likelihood of the text's next token, nats: [R]."""
    return -scores.nll


def rewards_of(name: str, scores: StepScores) -> Tensor:
    """A reward by its name: [R].

    Raises: ConfigError for a registered one that returns something else.
    """
    found = REWARDS[name](scores)
    if not isinstance(found, Tensor) or found.shape != scores.kl.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"the reward {name!r} must return a number per row {tuple(scores.kl.shape)}, got {got}"
        )
    return found
