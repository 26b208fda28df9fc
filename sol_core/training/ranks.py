"""The processes of one training run. One alone does everything itself, in this file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Ranks:
    """The only process of a run; ``distributed.Processes`` are several."""

    rank, size = 0, 1
    device = "auto"  # of the language model, as ``load_language_model`` takes it

    @property
    def is_lead(self) -> bool:
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of some units that are this rank's."""
        return numbers[self.rank :: self.size]

    def lead(self, work: Callable[[], T]) -> T:
        """Return the lead's result on every rank; what it raises is raised on every rank."""
        return work()

    def each(self, work: Callable[[], T]) -> T:
        """This rank's own result, once every rank has one; the first error is everybody's."""
        return work()

    def split(self, numbers: Sequence[int], work: Callable[[int], T]) -> list[T]:
        """``work`` of all numbers, in order and on every rank; each rank does its share."""
        return [work(number) for number in numbers]

    def any(self, flag: bool) -> bool:
        """Return whether it is true on any rank."""
        return flag

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over all ranks."""

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum over all ranks; what no rank reached keeps none."""


def rank_variable(name: str, default: int, *, least: int) -> int:
    """A number that torchrun sets; ConfigError for a variable that is damaged."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"the environment variable {name} must be a whole number of at least {least}, got "
            f"{text!r}: torchrun sets it; unset it to train in one process"
        )
    return int(text)
