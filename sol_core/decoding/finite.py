"""Ends a run with an error at the first number that is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sol_core.errors import NotFiniteError
from sol_core.files.places import program_name


def require_finite(numbers: Tensor, place: str) -> None:
    """Raise NotFiniteError when one of a few numbers is NaN or infinite.

    Args:
        numbers: of any shape; their sum is finite where they are, so it is all that is read.
        place: where they were computed, as the message's first words.
    """
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
