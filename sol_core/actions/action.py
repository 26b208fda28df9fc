"""The action of one decode step, the budget of many, and the table of their axes.

``Action``, ``Budget`` and ``ActionGrid`` have one field per axis. Checks, labels, options, forms,
the page's lanes and the policies' initial values follow from the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sol_core.errors import ConfigError
from sol_core.fields import added_field, configuration, plain_scalar

MIN_BITS = 2
MAX_BITS = 16  # "not quantised"
ONLY_ACTIONS = "only an Action has one per layer, of attention and of the MLP"


class Draws(NamedTuple):
    """How the warm start draws the levels of a window; fractions of dense."""

    above: float  # least distance of a window's mean from the grid's lowest level
    high: float  # largest mean of a window
    scatter: float  # spread of the steps around the mean
    dense: float  # fraction of the windows that leave the axis dense


@dataclass(frozen=True, slots=True)
class Axis:
    """One number of an action."""

    field: str  # name in Action and Budget; ActionGrid uses the plural
    short: str  # abbreviation in options, forms and stored results
    key: str  # selects its colour and its lane on the page (``app/web/theme.py``)
    name: str  # label of a lane, a table or a form
    noun: str  # what a value counts, in budgets
    term: str  # glossary entry on the page, and label in forms
    meaning: str  # describes a value, after "mean" in options and alone in forms
    hint: str  # the same for a slider on the page, with glossary marks
    draws: Draws  # for the warm start
    start: tuple[float, float]  # untrained: nats at the lowest level, e-folds to the highest
    measured: tuple[float, float, float]  # values that training requests on held-out texts
    part_of: str = ""  # the whole that a value is a fraction of
    by_layer: str = ""  # field of an action's values by layer; "" if all layers have one value
    unit: str = "%"  # unit that people read; fractions are shown as percentages
    dense: float = 1.0  # value that leaves nothing out
    lowest: float = 0.0  # least value; 0 itself is excluded
    whole: bool = False  # whether an action's values are whole numbers
    penalty: float = 1.0  # weight of its gap in the paper's penalty

    @property
    def levels_field(self) -> str:
        """Return the name of its levels in ``ActionGrid``."""
        return f"{self.field}s"

    @property
    def scale(self) -> float:
        """Return the factor from a value to the number that people read."""
        return 100 if self.unit == "%" else 1

    @property
    def label(self) -> str:
        return self.term[:1].upper() + self.term[1:]

    def text(self, value: float) -> str:
        """Describe a value: "50 % attention", "8 bits"."""
        number = f"{self.scale * value:.4g}"
        return f"{number} % {self.noun}" if self.unit == "%" else f"{number} {self.noun}"

    def check(self, value: Any, *, whole: bool = False) -> None:
        """Raise ConfigError for an invalid value; ``whole`` checks an action's value."""
        if isinstance(value, (list, tuple)):
            raise ConfigError(f"{self.term} must be one number, got {len(value)}: {ONLY_ACTIONS}")
        # NaN fails the comparisons.
        fits = isinstance(value, (int, float)) and self.lowest <= value <= self.dense
        if not fits or not value:
            low = f"between {self.lowest:g} and" if self.lowest else "above 0 and at most"
            raise ConfigError(f"{self.term} must be {low} {self.dense:g}, got {value!r}")
        if whole and self.whole and (isinstance(value, bool) or value != int(value)):
            raise ConfigError(f"{self.term} must be a whole number, got {value!r}")


# Warm start: bits above 12 change nothing, so windows rarely need them. Starts: the curves that
# single steps of a small model showed.
AXES = (
    Axis(
        field="keep_fraction", short="keep", key="attention", by_layer="keep_by_layer",
        name="Attention", noun="attention", term="attention kept", part_of="cached tokens",
        meaning="fraction of cached tokens that attention may read",
        hint="Part of the cached tokens a [[decode step|step]] may read: its best [[page|pages]].",
        draws=Draws(above=0.05, high=0.95, scatter=0.20, dense=0.15),
        start=(0.7, 5.0), measured=(0.5, 0.4, 0.3),
    ),
    Axis(
        field="channel_keep_ratio", short="channels", key="channels", by_layer="channels_by_layer",
        name="MLP", noun="MLP", term="MLP kept", part_of="MLP channels",
        meaning="fraction of the MLP's channels kept",
        hint="Part of the [[mlp|MLP]]'s [[channel|channels]]; weights of the rest are not read.",
        draws=Draws(above=0.0, high=0.95, scatter=0.12, dense=0.15),
        start=(0.8, 6.0), measured=(0.6, 0.7, 0.5),
    ),
    Axis(
        field="bit_width", short="bits", key="bits",
        name="Bits", noun="bits", term="bits",
        unit="bit", dense=MAX_BITS, lowest=MIN_BITS, whole=True, penalty=2.0,
        meaning="bits of the MLP activations, 16 leaves them alone",
        hint="Width of the MLP's [[activation|activations]]; 16 leaves them as they are.",
        draws=Draws(above=0.0, high=0.75, scatter=1.5 / 16, dense=0.30),
        start=(0.2, 6.0), measured=(8, 16, 7),
    ),
)  # fmt: skip
AXIS_FIELDS = tuple(axis.field for axis in AXES)
SHORT_AXES = tuple(axis.short for axis in AXES)


def ceil_fraction(fraction: float, count: int) -> int:
    """Return ``ceil(fraction · count)``, at least 1, immune to binary rounding.

    0.7 · 10 is 7.000000000000001 in floating point; the user means 7.
    """
    return max(1, math.ceil(fraction * count - 1e-9))


class _AxisValues:
    """A value per axis."""

    __slots__ = ()
    keep_fraction: float
    channel_keep_ratio: float
    bit_width: float
    keep_by_layer: tuple[float, ...] = ()  # this and the next: only an action has any
    channels_by_layer: tuple[float, ...] = ()

    def _check(self, *, whole: bool) -> None:
        """Check each axis, and convert scalars of numpy and torch to Python numbers."""
        for axis in AXES:
            value = getattr(self, axis.field)
            if type(value) not in (int, float):
                object.__setattr__(self, axis.field, value := plain_scalar(value))
            axis.check(value, whole=whole)

    def as_tuple(self) -> tuple[float, float, float]:
        """Return the values, in the order of ``AXES``."""
        return self.keep_fraction, self.channel_keep_ratio, self.bit_width

    def fractions(self) -> tuple[float, float, float]:
        """Return the values as fractions of dense, in the order of ``AXES``."""
        return self.keep_fraction, self.channel_keep_ratio, self.bit_width / MAX_BITS

    @property
    def is_dense(self) -> bool:
        """Return whether nothing is left out and nothing rounded."""
        return self.keep_fraction == self.channel_keep_ratio == 1 and self.bit_width == MAX_BITS

    @property
    def words(self) -> str:
        """Describe the values: "50 % attention · 70 % MLP · 8 bits"."""
        return " · ".join(
            axis.text(value)
            + (" by layer" if axis.by_layer and getattr(self, axis.by_layer) else "")
            for axis, value in zip(AXES, self.as_tuple(), strict=True)
        )

    @property
    def net_keep_rate(self) -> float:
        """Return the paper's single measure of efficiency, the mean of (κ, ρ, b/16)."""
        total = 0.0
        for fraction in self.fractions():  # not sum(), which rounds otherwise from Python 3.12
            total += fraction
        return total / len(AXES)


@configuration
@dataclass(frozen=True, slots=True)
class Action(_AxisValues):
    """Compute limits of one decode step: the paper's triple (arXiv:2605.10875, section 3).

    Attention and MLP take one number, or a list with one per layer of the model, whose mean is then
    the number that colours, spends and charts show.

    Raises: ConfigError for an invalid value.
    Attributes:
        keep_fraction: fraction of cached tokens attention may read, in (0, 1].
        channel_keep_ratio: fraction of the MLP's input channels kept, in (0, 1].
        bit_width: bits of the MLP activations, 2 to 16; 16 leaves them untouched.
        keep_by_layer, channels_by_layer: the first two by layer; empty if all layers have the same.
    """

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: int = MAX_BITS
    keep_by_layer: tuple[float, ...] = added_field(())
    channels_by_layer: tuple[float, ...] = added_field(())

    if TYPE_CHECKING:

        def __init__(
            self,
            keep_fraction: float | Sequence[float] = 1.0,
            channel_keep_ratio: float | Sequence[float] = 1.0,
            bit_width: int = MAX_BITS,
            keep_by_layer: Sequence[float] = (),
            channels_by_layer: Sequence[float] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        for axis in AXES:
            if axis.by_layer:
                self._take_layers(axis)
        self._check(whole=True)

    def _take_layers(self, axis: Axis) -> None:
        """Store an axis's values by layer, and their mean as its number."""
        given, known = getattr(self, axis.field), getattr(self, axis.by_layer)
        is_list = isinstance(given, (list, tuple)) or len(getattr(given, "shape", ())) == 1
        if not is_list and not known:
            return
        values = tuple(map(plain_scalar, given if is_list else known))
        for value in values:
            axis.check(value)
        if not values:
            raise ConfigError(f"{axis.term} needs one number, or one per layer, got an empty list")
        mean = min(max(math.fsum(values) / len(values), min(values)), max(values))
        if not is_list and given != mean:
            raise ConfigError(
                f"{axis.field} must be {mean!r}, the mean of {axis.by_layer}, got {given!r}: "
                f"give {axis.by_layer}=() for one number in all layers"
            )
        object.__setattr__(self, axis.field, mean)
        object.__setattr__(self, axis.by_layer, values)

    @classmethod
    def of(cls, values: Iterable[float | Sequence[float]]) -> Action:
        """Make an action from three values.

        Args:
            values: one per axis, in the order of ``AXES``; whole numbers may be floats.
        Raises: ConfigError for an invalid value.
        """
        keep_fraction, channel_keep_ratio, bits = map(plain_scalar, values)
        bit_width = int(bits) if isinstance(bits, float) and bits.is_integer() else bits
        return cls(keep_fraction, channel_keep_ratio, bit_width)

    @staticmethod
    @lru_cache(maxsize=4096, typed=True)
    def at(keep_fraction: float, channel_keep_ratio: float, bit_width: int) -> Action:
        """Return the cached action of three levels; schedules use the same few at every step."""
        return Action(keep_fraction, channel_keep_ratio, bit_width)

    def values(self) -> tuple[float | tuple[float, ...], ...]:
        """Return the values as ``of`` takes them: a tuple for values by layer."""
        keep = self.keep_by_layer or self.keep_fraction
        return keep, self.channels_by_layer or self.channel_keep_ratio, self.bit_width

    def with_level(self, axis: Axis, level: float) -> Action:
        """Return the action with another value on one axis, for all layers."""
        changes: dict[str, Any] = {axis.field: level}
        return replace(self, **changes | ({axis.by_layer: ()} if axis.by_layer else {}))

    def check_layers(self, num_layers: int) -> None:
        """Raise ConfigError if values by layer are for another number of layers."""
        for axis in AXES:
            given = len(getattr(self, axis.by_layer)) if axis.by_layer else 0
            if given not in (0, num_layers):
                raise ConfigError(
                    f"{axis.term} must be one number, or {num_layers}, one per layer of the model, "
                    f"got {given}"
                )


DENSE = Action()


@configuration
@dataclass(frozen=True, slots=True)
class Budget(_AxisValues):
    """A requested or achieved mean spend over decode steps.

    Attributes:
        keep_fraction: mean fraction of cached tokens that attention may read, in (0, 1].
        channel_keep_ratio: mean fraction of the MLP's channels kept, in (0, 1].
        bit_width: mean bits of the MLP activations, 2 to 16, fractions allowed.
        bytes_share: mean share of a dense step's bytes, in (0, 1], instead of the first two: the
            mix with the least measured damage is used (``sol_core/budgets``). None keeps the axes
            separate.
    Raises: ConfigError for an invalid value.
    """

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: float = float(MAX_BITS)
    bytes_share: float | None = added_field(None)

    def __post_init__(self) -> None:
        self._check(whole=False)
        share = plain_scalar(self.bytes_share)
        object.__setattr__(self, "bytes_share", share)
        if share is None:
            return
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ConfigError(f"a share of the bytes must be above 0 and at most 1, got {share!r}")
        if self.keep_fraction != 1 or self.channel_keep_ratio != 1:
            raise ConfigError("a budget is a share of the bytes or a value per axis, not both")

    @classmethod
    def share(cls, share: float, bits: float = float(MAX_BITS)) -> Budget:
        """Make a budget from a share of the dense bytes.

        Args:
            share: in (0, 1].
            bits: mean bits of the MLP activations, which do not change the bytes.
        """
        return cls(bit_width=bits, bytes_share=share)

    @property
    def words(self) -> str:
        """Describe the budget: "60 % of the bytes", or a value per axis."""
        if self.bytes_share is None:
            return super(Budget, self).words
        bits = "" if self.bit_width == MAX_BITS else f", {self.bit_width:g} bits"
        return f"{100 * self.bytes_share:.4g} % of the bytes{bits}"

    def check_request(self) -> None:
        """Raise ConfigError for a ``Spend``, which cannot be requested."""


@configuration
@dataclass(frozen=True, slots=True)
class Spend(Budget):
    """An achieved mean spend: a value per axis, and the share of the bytes that was read.

    Attributes:
        bytes_share: bytes as a share of what the same steps read densely; a policy's network counts
            and may make it exceed 1. None in records made before it was counted.
    """

    def __post_init__(self) -> None:
        self._check(whole=False)
        share = self.bytes_share
        if share is not None and not 0 < share < math.inf:
            raise ConfigError(f"a spend's share of the bytes is above 0, got {share!r}")

    @classmethod
    def of_steps(cls, sums: Iterable[float], steps: int, read: float, dense: float) -> Spend:
        """Make the mean spend of some steps.

        Args:
            sums: sum of each axis over the steps.
            read, dense: bytes that the steps read, and that they would have read densely.
        """
        keep, channels, bits = (total / steps for total in sums)
        return cls(keep, channels, bits, read / dense)

    def check_request(self) -> None:
        raise ConfigError(
            "a spend holds both what it spent per axis and its share of the bytes: ask for one of "
            "them, Budget(*spend.as_tuple()) or Budget.share(spend.bytes_share)"
        )

    @property
    def words(self) -> str:
        """Describe the spend: a value per axis, and the share of the bytes."""
        axes = super(Budget, self).words
        share = self.bytes_share
        return axes if share is None else f"{axes} · {100 * share:.4g} % of the bytes"
