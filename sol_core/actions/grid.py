"""The grid of levels that actions are chosen from, and the mechanisms of a compressed step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from kernels.mlp_pruners import MLP_PRUNERS, MlpPruner
from kernels.page_scorers import PAGE_SCORERS, PageScorer
from kernels.quantisation_levels import SCALE_BLOCK
from sol_core.actions.action import AXES, ONLY_ACTIONS, Action, Budget
from sol_core.actions.records import Record, record_of
from sol_core.errors import ConfigError
from sol_core.fields import OneOf, Range, added_field, check_fields, configuration

QuantSite = Literal["mlp_output", "mlp_input"]
PageScoring = Annotated[str | PageScorer, OneOf(PAGE_SCORERS, PageScorer)]
PageChoice = Literal["head", "group"]
PageBudget = Literal["count", "need"]
HeadReading = Literal["whole", "preview"]
MlpPruning = Annotated[str | MlpPruner, OneOf(MLP_PRUNERS, MlpPruner)]
QuantBlock = Annotated[int, Range(0, SCALE_BLOCK)]
_TENTHS = tuple(round(i / 10, 2) for i in range(1, 11))


@dataclass(frozen=True, kw_only=True)  # without slots: cached properties need a dictionary
class Mechanisms:
    """How a compressed step skips what its action drops; part of a grid's identity.

    Attributes:
        page_choice: each query "head" chooses its own pages (the paper), or the heads of a KV
            "group" choose together by their mean mass, so that a step reads only what it keeps.
        page_scorer, mlp_pruning: how pages are scored and which MLP channels are dropped: a name in
            ``PAGE_SCORERS`` and ``MLP_PRUNERS``, or your own ``PageScorer`` or ``MlpPruner``,
            which runs in plain PyTorch on every device.
        mlp_split: ascending knots (fraction of the MLP's bytes, fraction of its input channels) of
            a piecewise linear curve; only for a pruner that takes one.
        page_budget: "count": an attention level is a number of pages, equal in all layers, for
            heads that choose alone. "need": it is a mean that layers, KV groups and steps divide by
            their attention (``sol_core/model_tables/tables.py``), for pages chosen by mass.
        head: a step that drops something reads the vocabulary's weights "whole", or a 4-bit
            "preview" and then the rows of likely tokens (``kernels/head_preview``). A preview needs
            8-bit blocks, a CPU and measured directions.
        quant_block: channels that share a quantisation scale: 0 for one scale per token (the
            paper), or 32.
    """

    page_scorer: PageScoring = "quest"
    page_choice: PageChoice = "head"
    mlp_pruning: MlpPruning = "input"
    quant_site: QuantSite = "mlp_output"  # where activations are quantised
    mlp_split: tuple[tuple[float, float], ...] = ()
    page_budget: PageBudget = added_field("count")
    head: HeadReading = added_field("whole")
    quant_block: QuantBlock = added_field(0)

    def __post_init__(self) -> None:
        check_fields(self)
        for part, known in (("page_scorer", PAGE_SCORERS), ("mlp_pruning", MLP_PRUNERS)):
            given: str | PageScorer | MlpPruner = getattr(self, part)
            if isinstance(given, str) or given.name not in known:
                continue
            if known[given.name] is given:
                object.__setattr__(self, part, given.name)
            else:
                raise ConfigError(f"{part} {given.name} has a name that is taken: choose another")
        if bool(self.pruner.split) != bool(self.mlp_split):
            takes = [name for name, pruner in MLP_PRUNERS.items() if pruner.split]
            raise ConfigError(
                f"mlp_split belongs to mlp_pruning = {' or '.join(takes)}, and is needed there"
            )
        if self.quant_block not in (0, SCALE_BLOCK):
            raise ConfigError(f"quant_block must be 0 or {SCALE_BLOCK}, got {self.quant_block}")
        by_mass = self.scorer.is_mass and self.page_choice == "group"
        if self.page_budget == "need" and not by_mass:
            raise ConfigError(
                'page_budget = "need" belongs to page_scorer = "int4" and page_choice = "group": '
                f"got {self.page_scorer} and {self.page_choice}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields only; cached properties hold functions, which may not pickle."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def chooses_by_group(self) -> bool:
        """Return whether the heads of a KV group choose pages together."""
        return self.page_choice == "group"

    @cached_property
    def scorer(self) -> PageScorer:
        """Return the declaration of the page scorer."""
        given = self.page_scorer
        return PAGE_SCORERS[given] if isinstance(given, str) else given

    @cached_property
    def pruner(self) -> MlpPruner:
        """Return the declaration of the MLP pruner."""
        given = self.mlp_pruning
        return MLP_PRUNERS[given] if isinstance(given, str) else given

    @property
    def own_parts(self) -> tuple[PageScorer | MlpPruner, ...]:
        """Return the parts given as objects, which no file can hold."""
        given = (self.page_scorer, self.mlp_pruning)
        return tuple(part for part in given if not isinstance(part, str))

    def mlp_fractions(self, channel_keep_ratio: float) -> tuple[float, float]:
        """Return the fractions of input and inner channels that a ratio keeps."""
        if channel_keep_ratio >= 1:
            return 1.0, 1.0
        return self.pruner.fractions(channel_keep_ratio, self.mlp_split)


PAPER = Mechanisms()


@configuration
@dataclass(frozen=True)
class ActionGrid(Mechanisms, Record):
    """The levels of each axis, ascending, and the mechanisms by which steps skip the rest.

    The defaults are the paper's full grid (10 × 13 × 12 = 1,560 actions). Mechanisms and page
    size belong to the grid's identity, because they change what a spend means.

    Attributes:
        keep_fractions, channel_keep_ratios: levels in (0, 1].
        bit_widths: levels from 2 to 16 bits.
        page_size: tokens per page of the KV cache.
    Raises: ConfigError for levels that are not ascending, and for invalid values.
    """

    keep_fractions: tuple[float, ...] = _TENTHS
    channel_keep_ratios: tuple[float, ...] = tuple(round(i / 20, 2) for i in range(8, 21))
    bit_widths: tuple[int, ...] = tuple(range(5, 17))
    page_size: Annotated[int, Range(1, 256)] = 8

    def __post_init__(self) -> None:
        lists = [levels for levels in self.levels() if isinstance(levels, (list, tuple))]
        if any(isinstance(level, (list, tuple)) for levels in lists for level in levels):
            raise ConfigError(f"levels of a grid are numbers: {ONLY_ACTIONS}")
        check_fields(self)
        if not self.mlp_split:
            object.__setattr__(self, "mlp_split", self.pruner.split)
        Mechanisms.__post_init__(self)
        for axis, levels in zip(AXES, self.levels(), strict=True):
            if not levels or list(levels) != sorted(set(levels)):
                raise ConfigError(
                    f"levels of {axis.field} must be distinct and ascending, got {levels}"
                )
            for level in levels:
                axis.check(level, whole=True)

    @property
    def mechanisms(self) -> Mechanisms:
        """Return the mechanisms alone. Raises: ConfigError."""
        return Mechanisms(**{item.name: getattr(self, item.name) for item in fields(Mechanisms)})

    def __str__(self) -> str:
        parts = [str(self.scorer), self.page_choice, str(self.pruner), self.quant_site]
        parts += ["pages by need"] if self.page_budget == "need" else []
        parts += ["previewed head"] if self.head == "preview" else []
        parts += [f"scales of {self.quant_block} channels"] if self.quant_block else []
        return f"{grid_name(self)}: {', '.join(parts)}, pages of {self.page_size}"

    def levels(self) -> tuple[tuple[float, ...], ...]:
        """Levels of each axis, in the order of ``AXES``."""
        return self.keep_fractions, self.channel_keep_ratios, self.bit_widths

    def action(self, indices: Sequence[int]) -> Action:
        """Return the action at the given level indices, one per axis."""
        keep, channels, bits = indices
        return Action.at(
            self.keep_fractions[keep], self.channel_keep_ratios[channels], self.bit_widths[bits]
        )

    def check_budget(self, budget: Budget) -> None:
        """Raise ConfigError, naming the axis, for a mean spend that the levels cannot reach."""
        by_share = budget.bytes_share is not None
        for axis, levels in zip(AXES, self.levels(), strict=True):
            value = getattr(budget, axis.field)
            if by_share and axis.field != "bit_width":
                continue
            if not levels[0] - 1e-9 <= value <= levels[-1] + 1e-9:
                raise ConfigError(
                    f"{axis.term} = {value:g} is outside the grid's levels "
                    f"{levels[0]:g} to {levels[-1]:g}"
                )


# ``default`` is the best measured grid (docs/results.md): 4-bit keys choose pages per KV group by
# need, and both sides of the MLP are pruned. ``paper`` is the paper's.
GRIDS = {
    "default": ActionGrid(
        keep_fractions=(0.05, 0.1, 0.15, *_TENTHS[1:]),
        channel_keep_ratios=tuple(round(i / 20, 2) for i in range(4, 21)),
        page_scorer="int4",
        page_choice="group",
        mlp_pruning="both",
        page_budget="need",
        head="preview",
        bit_widths=tuple(range(3, 17)),
        quant_block=SCALE_BLOCK,
    ),
    "paper": ActionGrid(),
}
DEFAULT_GRID = "default"
OWN_GRID = "own"  # the name of any other grid


def grid_name(grid: ActionGrid) -> str:
    """Return the name of the equal grid, ignoring the quantisation site; "own" if none."""
    at_home = replace(grid, quant_site=ActionGrid().quant_site)
    return next((name for name, known in GRIDS.items() if known == at_home), OWN_GRID)


def grid_record(grid: ActionGrid) -> dict[str, Any]:
    """Describe a grid in a result: its name, and its fields unless the name implies them."""
    name = grid_name(grid)
    levels = (
        {} if GRIDS.get(name) == grid else {"grid_levels": json.loads(json.dumps(record_of(grid)))}
    )
    return {"grid": name, **levels}


def grid_named(name: str) -> ActionGrid:
    """Return a named grid. Raises: ConfigError listing the known names."""
    if name not in GRIDS:
        raise ConfigError(f"grid must be one of {', '.join(GRIDS)}, got {name!r}")
    return GRIDS[name]
