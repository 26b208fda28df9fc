"""A step's numbers: KL to the dense step, and the check that they are finite.

KL is what training rewards, evaluation scores and the page shows. Numbers that are not finite end a
run with a sentence, before anything is computed from them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sol_core.errors import NotFiniteError
from sol_core.files.places import program_name


def kl_to_dense(dense: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """KL(dense ‖ row) of every row that feeds the same token.

    KL = Σ p·log p − Σ p·log q with the dense p: a product instead of passes over copies of
    [B, G, V]. Its rounding error is about 1e-5 nats, so a row that equals the dense one need not
    come out as exactly 0.

    Args:
        dense: [B, V] fp32 log probabilities.
        given: [B, G, V] fp32 log probabilities.
    Returns: KL [B, G], at least 0, and the dense step's entropy [B]; fp32, nats.
    """
    probability = dense.exp()
    negative_entropy = torch.linalg.vecdot(probability, dense)
    expected = (given @ probability[:, :, None])[..., 0]
    return (negative_entropy[:, None] - expected).clamp(min=0), -negative_entropy


def require_finite(numbers: Tensor, place: str) -> None:
    """Raise NotFiniteError when one of a few numbers is NaN or infinite."""
    if not math.isfinite(float(numbers.sum())):
        raise NotFiniteError(
            f"{place}: the model computed numbers that are not finite (NaN or infinity), so its "
            "weights are damaged, or too large for its number format. To check the default "
            f"model's files and fetch damaged ones again: {program_name()} doctor --repair. "
            "For another model, copy its files again, or load it with --dtype float32"
        )


class FiniteSteps:
    """The check of every decode step, by the entropy that is computed anyway.

    One NaN or infinite logit makes a row's entropy NaN. On a GPU a step is checked after the
    next one was started: asking at once would leave the GPU idle in between.
    """

    def __init__(self, device: torch.device) -> None:
        self._late = device.type != "cpu"
        self._waiting: tuple[int, Tensor] | None = None

    def add(self, index: int, entropy: Tensor) -> None:
        """Take a step's entropy [R]; raise NotFiniteError for this step or, late, the last."""
        if self._late:
            self.finish()
        self._waiting = index, entropy
        if not self._late:
            self.finish()

    def finish(self) -> None:
        """Check the step that is still waiting, if any."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            require_finite(waiting[1], f"decode step {waiting[0]}")
