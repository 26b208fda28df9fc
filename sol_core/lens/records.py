"""Records of the counterfactual lens: the run that is looked into, and what is seen of a step."""

from __future__ import annotations

from dataclasses import dataclass

from sol_core.actions import Action, ActionGrid, Record
from sol_core.errors import ConfigError
from sol_core.events import Alternative
from sol_core.fields import added_field


@dataclass(frozen=True, slots=True)
class LensRun:
    """A generation to look into."""

    tokens: tuple[int, ...]  # the prompt's, then the generated ones
    actions: tuple[Action, ...]  # taken; the step of action t fed the token before generated one t
    grid: ActionGrid  # whose levels are tried; its page size and site are the run's
    shadow: bool = False  # the full model ran along, on its own cache
    left_out: tuple[int, ...] = added_field(())  # pages that no step of it could read

    def __post_init__(self) -> None:
        if not 1 <= len(self.actions) < len(self.tokens):
            raise ConfigError(
                "a run has at least one prompt token and one generated token, got "
                f"{len(self.tokens)} tokens and {len(self.actions)} actions"
            )

    @property
    def before(self) -> int:
        """Tokens in the cache before the first step: the prompt without its last one."""
        return len(self.tokens) - len(self.actions) - 1

    @property
    def is_dense(self) -> bool:
        """Return whether the run is the full model's."""
        return all(action.is_dense for action in self.actions)


@dataclass(frozen=True, slots=True)
class LensRow:
    """The step under one action."""

    action: Action
    nll: float  # of the token that was generated, nats
    kl: float  # KL(dense ‖ row) to the dense step on the same cache, nats
    entropy: float  # of the row's distribution, nats
    choice: Alternative  # its most probable token, before any temperature or repetition penalty


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """The step as the run took it."""

    nll: float  # of the token that was generated, nats
    entropy: float  # of the step's distribution, nats
    # KL(dense ‖ step) to the full model that ran along, nats, as the run recorded it; None without
    # it. ``LensRow.kl`` asks less: one dense step on the run's own cache.
    kl_to_dense: float | None


@dataclass(frozen=True, slots=True)
class LensTrail:
    """Effect of a row's keys and values on the tokens that followed."""

    name: str  # "taken", or the axis whose lowest level the row is
    action: Action
    nll_change: tuple[float, ...]  # per following token, its NLL less that after a dense step
    kl: tuple[float, ...]  # per following token, KL(after a dense step ‖ after this row), nats


@dataclass(frozen=True, slots=True)
class PageEffect:
    """The step as it was taken, decoded again without some pages of its cache; in nats."""

    pages: tuple[int, ...]  # that were left out, oldest first
    kl: float  # KL(step ‖ step without them)
    # NLL of the generated token without them, less that with them: what ContextCite
    # (arXiv:2409.00729) calls the drop in log-probability.
    nll_change: float
    nll: float  # without them
    choice: Alternative  # the most probable token without them


@dataclass(frozen=True, slots=True)
class PageEffects(Record):
    """Effects of single pages on one step: cause, beside what attention gives."""

    index: int  # 0-based number of the token within the generation
    count: int  # pages that can be left out: those before the newest
    effects: tuple[PageEffect, ...]  # of some of them, in order
    attention: tuple[float, ...]  # of a dense step to each of all, mean over layers and heads
    # Spearman's, with ``kl``; None until all were left out, or where one is the same everywhere.
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class LensView(Record):
    """A token under every level of every axis, the other axes as they were taken."""

    index: int  # 0-based number of the token within the generation
    taken: LensRow  # the step as it was
    dense: LensRow  # everything kept
    axes: tuple[tuple[LensRow, ...], ...]  # as ``AXIS_FIELDS``, a row per level, ascending
    trails: tuple[LensTrail, ...]  # over at most ``FOLLOWING`` tokens, fewer where the run ends
    replayed: ReplayedStep  # the step as the run took it
    without: PageEffect | None = added_field(None)  # where pages were asked to be left out
    # Nats of NLL that the step taken may differ by in another computation.
    noise: float = added_field(0.0)
