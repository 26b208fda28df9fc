"""The action of one decode step and the mean budget of many: one value per axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sol_core.actions.axes import AXES, MAX_BITS
from sol_core.errors import ConfigError


def ceil_fraction(fraction: float, count: int) -> int:
    """``ceil(fraction · count)``, at least 1, immune to binary rounding.

    0.7 · 10 is 7.000000000000001 in floating point; the user means 7.
    """
    return max(1, math.ceil(fraction * count - 1e-9))


class _AxisValues:
    """A value per axis."""

    __slots__ = ()
    keep_fraction: float
    channel_keep_ratio: float
    bit_width: float

    def as_tuple(self) -> tuple[float, float, float]:
        """The values, in the order of ``AXES``."""
        return self.keep_fraction, self.channel_keep_ratio, self.bit_width

    def shares(self) -> tuple[float, float, float]:
        """The values as shares of dense, in the order of ``AXES``."""
        return self.keep_fraction, self.channel_keep_ratio, self.bit_width / MAX_BITS

    @property
    def is_dense(self) -> bool:
        """True if nothing is skipped and nothing is rounded."""
        return self.as_tuple() == DENSE.as_tuple()

    @property
    def words(self) -> str:
        """For people: "50 % attention · 70 % MLP · 8 bits"."""
        pairs = zip(AXES, self.as_tuple(), strict=True)
        return " · ".join(axis.text(value) for axis, value in pairs)

    @property
    def net_keep_rate(self) -> float:
        """The paper's one-number efficiency axis: mean of (κ, ρ, b/16)."""
        total = 0.0
        for share in self.shares():  # not sum(), which rounds otherwise from Python 3.12
            total += share
        return total / len(AXES)


@dataclass(frozen=True, slots=True)
class Action(_AxisValues):
    """Compute limits of one decode step: the paper's triple (arXiv:2605.10875, section 3).

    Attributes:
        keep_fraction: share of cached tokens that attention may read, in (0, 1].
        channel_keep_ratio: share of MLP input channels kept, in (0, 1].
        bit_width: bits of the MLP activations, 2 to 16; 16 leaves them unchanged.
    Raises: ConfigError for a value that is not allowed.
    """

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: int = MAX_BITS

    def __post_init__(self) -> None:
        for axis in AXES:
            axis.check(getattr(self, axis.field), whole=True)

    @classmethod
    def of(cls, values: Iterable[float]) -> Action:
        """The action of three values.

        Args:
            values: one per axis, in the order of ``AXES``; whole numbers may be floats.
        Raises: ConfigError for a value that is not allowed.
        """
        keep_fraction, channel_keep_ratio, bits = values
        bit_width = int(bits) if float(bits).is_integer() else bits
        return cls(keep_fraction, channel_keep_ratio, bit_width)  # type: ignore[arg-type]  # is checked


DENSE = Action()


@dataclass(frozen=True, slots=True)
class Budget(_AxisValues):
    """A requested or achieved mean spend over decode steps.

    Attributes:
        keep_fraction: mean share of cached tokens that attention may read, in (0, 1].
        channel_keep_ratio: mean share of the MLP's channels kept, in (0, 1].
        bit_width: mean bits of the MLP activations, 2 to 16, fractions allowed.
        bytes_share: mean share of a dense step's bytes, in (0, 1], instead of the first two
            fields: the mix with the least measured damage is chosen (``sol_core/budgets``). None
            keeps the axes separate.
    Raises: ConfigError for a value that is not allowed.
    """

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: float = float(MAX_BITS)
    bytes_share: float | None = None

    def __post_init__(self) -> None:
        for axis in AXES:
            axis.check(getattr(self, axis.field))
        share = self.bytes_share
        if share is None:
            return
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ConfigError(f"a share of the bytes must be above 0 and at most 1, got {share!r}")
        if self.keep_fraction != 1 or self.channel_keep_ratio != 1:
            raise ConfigError("a budget is a share of the bytes or a value per axis, not both")

    @classmethod
    def share(cls, share: float, bits: float = float(MAX_BITS)) -> Budget:
        """The budget of a share of the dense bytes.

        Args:
            share: in (0, 1].
            bits: mean bits of the MLP activations, which do not change the bytes.
        """
        return cls(bit_width=bits, bytes_share=share)

    @property
    def words(self) -> str:
        """For people: "60 % of the bytes", or a value per axis."""
        if self.bytes_share is None:
            return super(Budget, self).words
        bits = "" if self.bit_width == MAX_BITS else f", {self.bit_width:g} bits"
        return f"{100 * self.bytes_share:.4g} % of the bytes{bits}"
