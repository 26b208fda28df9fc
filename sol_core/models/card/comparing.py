"""Comparison of kernels' numbers with those of their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from kernels.gpu.triton_support import OPERATIONS, replaced_operations, use_reference
from sol_core.models.card.small_model import Widths

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
# Rounding makes both choose other channels and pages than fp32: what counts is how far off both
# are, root mean square of the differences over that of the numbers.
FARTHER = 1.2
_ALWAYS_ALLOWED = 1e-3


class WrongNumbersError(ArithmeticError):
    """A kernel's numbers are not its reference's."""


class Setting(NamedTuple):
    """Subject of a check: a card, a number format and the loaded model's widths."""

    device: torch.device
    dtype: torch.dtype
    widths: Widths
    seed: int = 0

    def random(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers of the format, on the device."""
        return (torch.randn(shape, device=self.device) * scale).to(self.dtype)

    def counts(self, low: int, high: int, rows: int) -> Tensor:
        """[rows] int64 in [low, high]."""
        return torch.randint(low, high + 1, (rows,), device=self.device)


def both(
    operation: Callable[P, ResultT], *given: P.args, **how: P.kwargs
) -> tuple[ResultT, ResultT]:
    """The results of an operation as it is used now, and by references alone."""
    return operation(*given, **how), by_references(operation, *given, **how)


def by_references(operation: Callable[P, ResultT], *given: P.args, **how: P.kwargs) -> ResultT:
    before = replaced_operations()
    use_reference(OPERATIONS)
    try:
        return operation(*given, **how)
    finally:
        use_reference(before)


def compare(what: str, numbers: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise WrongNumbersError beyond a tolerance, absolute for numbers below 1, else relative."""
    mine, right = numbers.float(), expected.float()
    worst = ((mine - right).abs() / right.abs().clamp(min=1)).max().item()
    if not worst <= tolerance and not torch.equal(mine, right):
        raise WrongNumbersError(f"{what} differ from the reference's by {worst:.3g}")


def check_no_farther(
    what: str, numbers: Tensor, expected: Tensor, exact: Tensor, rounding: float = _ALWAYS_ALLOWED
) -> None:
    """Raise WrongNumbersError where numbers are farther from fp32's than the reference's are, and
    than ``rounding``, which a few numbers may be off by luck."""
    mine, right = (_distance(some, exact) for some in (numbers, expected))
    if not mine <= max(FARTHER * right, rounding):
        raise WrongNumbersError(
            f"{what} are off by {mine:.3g} of their size, those of the reference by {right:.3g}"
        )


def _distance(numbers: Tensor, exact: Tensor) -> float:
    difference = (numbers.float() - exact).square().mean()
    return float((difference / exact.square().mean()).sqrt())
