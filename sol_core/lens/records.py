"""Records of the counterfactual lens: the examined run, and measurements of a step."""

from __future__ import annotations

from dataclasses import dataclass

from sol_core.actions import Action, ActionGrid, Record
from sol_core.errors import ConfigError
from sol_core.events import Alternative
from sol_core.fields import added_field


@dataclass(frozen=True, slots=True)
class LensRun:
    """A generation to examine."""

    tokens: tuple[int, ...]  # the prompt's, then the generated ones
    actions: tuple[Action, ...]  # taken; action t is of the step that generated token t
    grid: ActionGrid  # levels to try; page size and site must be the run's
    shadow: bool = False  # the full model ran along, on its own cache
    left_out: tuple[int, ...] = added_field(())  # pages that no step could read

    def __post_init__(self) -> None:
        if not 1 <= len(self.actions) < len(self.tokens):
            raise ConfigError(
                "a run has at least one prompt token and one generated token, got "
                f"{len(self.tokens)} tokens and {len(self.actions)} actions"
            )

    @property
    def before(self) -> int:
        """Return the tokens cached before the first step: the prompt without its last."""
        return len(self.tokens) - len(self.actions) - 1

    @property
    def is_dense(self) -> bool:
        """Return whether the run is the full model's."""
        return all(action.is_dense for action in self.actions)


@dataclass(frozen=True, slots=True)
class LensRow:
    """The step under one action."""

    action: Action
    nll: float  # NLL of the generated token, nats
    kl: float  # KL(dense ‖ row) to the dense step on the same cache, nats
    entropy: float  # entropy of the row's distribution, nats
    choice: Alternative  # most probable token, before temperature and repetition penalty


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """The step as the run took it."""

    nll: float  # NLL of the generated token, nats
    entropy: float  # entropy of the step's distribution, nats
    # KL(dense ‖ step), nats, to the full model that ran along, as recorded by the run; None without
    # it. ``LensRow.kl`` is to a dense step on the run's own cache.
    kl_to_dense: float | None


@dataclass(frozen=True, slots=True)
class LensTrail:
    """Effect of a row's keys and values on the following tokens."""

    name: str  # "taken", or the axis at its lowest level
    action: Action
    nll_change: tuple[float, ...]  # per following token, NLL minus that after a dense step, nats
    kl: tuple[float, ...]  # per following token, KL(after a dense step ‖ after this row), nats


@dataclass(frozen=True, slots=True)
class PageEffect:
    """The step as taken, decoded again without some pages of its cache; in nats."""

    pages: tuple[int, ...]  # left out, oldest first
    kl: float  # KL(step ‖ step without them)
    # NLL of the generated token without them minus with them, the drop in log-probability of
    # ContextCite (arXiv:2409.00729).
    nll_change: float
    nll: float  # without them
    choice: Alternative  # most probable token without them


@dataclass(frozen=True, slots=True)
class PageEffects(Record):
    """Effects of single pages on one step, beside their attention."""

    index: int  # 0-based index of the token within the generation
    count: int  # pages that can be left out: all before the newest
    effects: tuple[PageEffect, ...]  # of the first pages, in order
    attention: tuple[float, ...]  # a dense step's, per page, mean over layers and heads
    # Spearman's, with ``kl``; None until all pages are done, or if either is constant.
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class LensView(Record):
    """A token at each level of each axis, with the other axes as taken."""

    index: int  # 0-based index of the token within the generation
    taken: LensRow  # the step as taken
    dense: LensRow  # the dense step
    axes: tuple[tuple[LensRow, ...], ...]  # as in ``AXIS_FIELDS``, a row per level, ascending
    trails: tuple[LensTrail, ...]  # over up to ``FOLLOWING`` tokens
    replayed: ReplayedStep  # the step as the run took it
    without: PageEffect | None = added_field(None)  # set if pages were left out
    # Change of NLL, nats, that another computation of the step may cause.
    noise: float = added_field(0.0)
