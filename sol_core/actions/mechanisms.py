"""Ways in which a compressed step skips what its action drops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from kernels.mlp_pruners import MLP_PRUNERS, MlpPruner
from kernels.page_scorers import PAGE_SCORERS, PageScorer
from sol_core.errors import ConfigError
from sol_core.fields import OneOf

QuantSite = Literal["mlp_output", "mlp_input"]
PageScorerName = Annotated[str, OneOf(PAGE_SCORERS)]
PageChoice = Literal["head", "group"]
PageBudget = Literal["count", "need"]
HeadReading = Literal["whole", "preview"]
MlpPruning = Annotated[str, OneOf(MLP_PRUNERS)]


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Ways in which a compressed step skips what its action drops; part of a grid's identity.

    Attributes:
        page_scorer: what pages are chosen by, a name in ``PAGE_SCORERS``.
        page_choice: every query "head" chooses its pages (the paper), or the heads of a KV
            "group" choose together by their mean mass, so that a step reads what it keeps.
        mlp_pruning: which channels of the MLP are dropped, a name in ``MLP_PRUNERS``.
        quant_site: where activations are quantised.
        mlp_split: knots (share of the MLP's bytes, share of input channels), ascending, of a
            piecewise linear curve; only with a pruner that takes one.
        page_budget: a level of attention is a "count" of pages, the same in every layer; or the
            mean of a share that each layer, KV group and step takes by "need"
            (``sol_core/models/page_thresholds.py``), for pages chosen by a group's masses alone.
        head: a step that drops something reads the vocabulary's weights "whole", or a "preview" of
            4 bits and then those of the likely tokens (``kernels/head_preview``), where the model
            has one: 8-bit blocks on a CPU, and directions that were measured.
    """

    page_scorer: PageScorerName = "quest"
    page_choice: PageChoice = "head"
    mlp_pruning: MlpPruning = "input"
    quant_site: QuantSite = "mlp_output"
    mlp_split: tuple[tuple[float, float], ...] = ()
    page_budget: PageBudget = "count"
    head: HeadReading = "whole"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        object.__setattr__(self, "mlp_split", tuple(tuple(knot) for knot in self.mlp_split))
        if bool(self.pruner.split) != bool(self.mlp_split):
            takes = [name for name, pruner in MLP_PRUNERS.items() if pruner.split]
            raise ConfigError(
                f"mlp_split belongs to mlp_pruning = {' or '.join(takes)}, and is needed there"
            )

        by_mass = self.scorer.is_mass and self.page_choice == "group"
        if self.page_budget == "need" and not by_mass:
            raise ConfigError(
                'page_budget = "need" belongs to page_scorer = "int4" and page_choice = "group": '
                f"got {self.page_scorer} and {self.page_choice}"
            )

    @property
    def scorer(self) -> PageScorer:
        """Declaration of its way to score pages."""
        return PAGE_SCORERS[self.page_scorer]

    @property
    def pruner(self) -> MlpPruner:
        """Declaration of its way to prune the MLP."""
        return MLP_PRUNERS[self.mlp_pruning]

    def mlp_shares(self, channel_keep_ratio: float) -> tuple[float, float]:
        """Share of input channels and of inner channels that an action's ratio keeps."""
        if channel_keep_ratio >= 1:
            return 1.0, 1.0
        return self.pruner.shares(channel_keep_ratio, self.mlp_split)


_CHOICES: dict[str, Collection[str]] = {
    "page_scorer": PAGE_SCORERS,
    "page_choice": get_args(PageChoice),
    "mlp_pruning": MLP_PRUNERS,
    "quant_site": get_args(QuantSite),
    "page_budget": get_args(PageBudget),
    "head": get_args(HeadReading),
}
PAPER = Mechanisms()
