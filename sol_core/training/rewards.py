"""Rewards of a step: what GRPO makes more of, before prices (METHOD 5)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sol_core.training.windows import StepScores


def kl_reward(scores: StepScores) -> Tensor:
    """Minus KL to the dense step, nats: [R]."""
    return -scores.kl


def nll_reward(scores: StepScores) -> Tensor:
    """Log-likelihood of the text's next token, nats: [R]."""
    return -scores.nll


REWARDS: dict[str, Callable[[StepScores], Tensor]] = {"kl": kl_reward, "nll": nll_reward}
