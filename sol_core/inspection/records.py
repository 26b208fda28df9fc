"""Configuration and frozen records of an inspection.

Information is in nats, times are milliseconds and measured, costs are computed (``cost.py``).
Every record's ``to_dict`` is plain JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sol_core.actions import Action, ActionGrid, Budget, Spend, record_of
from sol_core.config import (
    MAX_EPISODE_STEPS,
    GenerationConfig,
    ScheduleConfig,
    SideRowConfig,
    WithGrid,
)
from sol_core.errors import ConfigError
from sol_core.events import Alternative, PrefillProgress, StepCost
from sol_core.fields import Positive, Range, added_field, check_fields, configuration
from sol_core.reporting.verdict import Verdict

MAX_SCHEDULES = 3  # beside the dense row: four rows are what the CPU's kernels take at once


@configuration
@dataclass(frozen=True, slots=True)
class InspectionConfig(WithGrid):
    """Settings that decide an inspection besides the model and the text.

    Attributes:
        schedules: one to three, other than dense; a dense row always rides along, first.
        grid: levels, page size and mechanisms; None takes those of the policy, else of the budget.
        episode_steps: steps per episode; the schedulers restart there.
        prefix_tokens: tokens of the text that are read densely and not scored; at least 1,
            because nothing predicts the first one.
        max_tokens: tokens of the text that are read; None reads on to the end of the context.
        read_pages: rows say which pages of the KV cache their steps read.
        chat: the text is a prompt in the model's chat template; only with ``generated``.
        generated: tokens that a model wrote after the text. Where there are some, only they
            are scored, and the whole text is the prefix.
    """

    schedules: tuple[ScheduleConfig, ...]
    grid: ActionGrid | None = None
    episode_steps: Annotated[int, Range(1, MAX_EPISODE_STEPS)] = 16
    prefix_tokens: Positive = 1
    max_tokens: Positive | None = None
    read_pages: bool = added_field(False)
    chat: bool = False
    generated: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if any(schedule.kind == "dense" for schedule in self.schedules):
            raise ConfigError("the dense row is always there: leave dense out of the schedules")
        if not 0 <= len(self.schedules) <= MAX_SCHEDULES:
            raise ConfigError(
                f"at most {MAX_SCHEDULES} schedules beside dense, got {len(self.schedules)}"
            )
        if len(set(self.rows)) != len(self.rows):
            raise ConfigError(f"schedules must differ, got {', '.join(self.rows[1:])}")
        if self.max_tokens is not None and self.max_tokens <= self.prefix_tokens:
            raise ConfigError(
                f"max_tokens must be above the {self.prefix_tokens} that are not scored, "
                f"got {self.max_tokens!r}"
            )
        if self.chat and not self.generated:
            raise ConfigError("chat is for a prompt with generated tokens after it")
        self.as_generation()  # checks budgets

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows' names, in the order of every token's scores."""
        return ("dense", *(schedule.name for schedule in self.schedules))

    def as_generation(self) -> GenerationConfig:
        """These rows as a generation's: a dense one, and the others beside it."""
        return GenerationConfig(
            schedule=ScheduleConfig("dense"),
            side_rows=tuple(SideRowConfig(schedule.name, schedule) for schedule in self.schedules),
            grid=self.grid,
            episode_steps=self.episode_steps,
        )


@dataclass(frozen=True, slots=True)
class InspectionStart:
    """The prefix has been read densely; scoring starts."""

    rows: tuple[str, ...]  # names, "dense" first: "static", "policy:NAME" … in every list's order
    prefix: tuple[int, ...]  # token ids that were read and are not scored
    prefix_text: str  # the same as text, special tokens spelled out
    text_tokens: int  # tokens of the whole text
    scored_tokens: int  # fewer than the rest of the text where it was cut
    elapsed_ms: float  # of the dense pass
    reused_tokens: int = added_field(0)  # of the prefix, kept from an earlier text
    page_texts: tuple[str, ...] = added_field(
        ()
    )  # of the prefix by pages; none unless pages are read

    @property
    def tokens_left_out(self) -> int:
        """Tokens at the text's end that are not scored."""
        return self.text_tokens - len(self.prefix) - self.scored_tokens

    def to_dict(self) -> dict[str, Any]:
        return {"type": "prefill", **record_of(self)}


@dataclass(frozen=True, slots=True)
class InspectedRow:
    """The step that predicted a token, as one schedule took it, on its own KV cache."""

    name: str  # of the row, as in ``InspectionStart.rows``
    action: Action  # what the step was allowed to spend
    nll: float  # −log p(token), nats
    kl: float  # KL(dense ‖ row) of the step's distribution, nats; 0 for the dense row
    entropy: float  # of the row's distribution, nats
    cost: StepCost  # computed cost of the step at its action, the policy's network included
    policy: tuple[tuple[float, ...], ...] | None = None  # its probability of every level, per axis
    pages_read: str = added_field(
        ""
    )  # ``PageReads.by_page``; "" where all were, or it was not asked for


@dataclass(frozen=True, slots=True)
class InspectedToken:
    """A token of the text under every schedule."""

    index: int  # 0-based number among the scored tokens
    token_id: int  # id in the tokenizer's vocabulary
    text: str  # what the token adds to the visible text; "" while a character is incomplete
    kind: str  # one of ``token_kinds.KINDS``; "code" in older records
    top: tuple[Alternative, ...]  # the dense row's five most probable tokens, best first
    rows: tuple[InspectedRow, ...]  # in the order of ``InspectionStart.rows``; the dense row first
    cached_tokens: int  # KV cache length that the step attended over, its own input included
    step_ms: float  # measured wall time of the step, all rows together
    elapsed_ms: float  # measured wall time since the inspection began

    def to_dict(self) -> dict[str, Any]:
        return {"type": "token", **record_of(self)}


@dataclass(frozen=True, slots=True)
class RowTotals:
    """A schedule over all scored tokens; nll, kl: means per token, nats."""

    name: str
    nll: float
    kl: float
    spend: Spend  # achieved mean
    cost: StepCost  # computed, summed


@dataclass(frozen=True, slots=True)
class MatchedStatic:
    """Static scored once more, at the bytes that another row read."""

    name: str  # of that row
    budget: Budget
    nll: tuple[float, ...]  # of every scored token, nats
    cost: StepCost  # computed, summed
    kl: tuple[float, ...] = ()  # of every scored token, nats; empty in old records


@dataclass(frozen=True, slots=True)
class ListedToken:
    """An entry of a list: a token, and the numbers that put it there."""

    index: int  # of the token, as in ``InspectedToken``
    text: str
    nll: float  # of the list's row, nats
    kl: float  # of the list's row, nats
    loss: float  # NLL of the row less that of the dense row, nats; negative where it was lucky
    entropy: float  # of the dense row, nats
    spend: float  # net keep rate of the row's action: mean of attention, channels and bits / 16
    cheaper: str = ""  # of an over-served token, the row that spent less at no harm; "" elsewhere
    cheaper_spend: float | None = None  # that row's net keep rate
    cheaper_kl: float | None = None


@dataclass(frozen=True, slots=True)
class KindSpend:
    """Tokens of one kind under one schedule."""

    kind: str
    tokens: int  # how many there are
    share: float  # fraction of all scored tokens that are of it
    keep: float  # mean spend per axis, by the axes' short names
    channels: float
    bits: float
    kl: float  # mean KL to dense, nats
    loss: float  # mean NLL less that of the dense row, nats


@dataclass(frozen=True, slots=True)
class RowReport:
    """Tokens on which one schedule spent, and those that needed it."""

    name: str
    # Spearman's, per axis with the dense row's surprisal and entropy; 0 where an axis never varies.
    correlation: dict[str, dict[str, float]]
    kinds: tuple[KindSpend, ...]  # spend by kind of token; kinds that do not occur are left out
    under_served: tuple[ListedToken, ...]  # lost more than the noise floor, the largest loss first
    # Another row spent less and stayed within ``HARMLESS_KL``; the largest difference first.
    over_served: tuple[ListedToken, ...]


@dataclass(frozen=True, slots=True)
class DifficultyReport:
    """Spend against difficulty."""

    least_confident: tuple[ListedToken, ...]  # to which the dense row gave the least probability
    rows: tuple[RowReport, ...]  # per schedule, without the dense row, which spends all everywhere


@dataclass(frozen=True, slots=True)
class InspectionEnd:
    """The inspection ended."""

    reason: Literal["finished", "stopped", "time_limit"]  # the last where its owner had no more
    num_tokens: int
    decode_ms: float  # measured, the prefix not counted
    tokens_per_s: float
    rows: tuple[RowTotals, ...]  # totals per row; empty without tokens
    report: DifficultyReport | None  # None without tokens
    matched: tuple[MatchedStatic, ...] = ()  # for rows that read more or less than static
    verdicts: tuple[Verdict, ...] = added_field(())  # on schedules, the one that matters most first
    made_on: dict[str, Any] | None = added_field(None)  # versions and machine (``provenance.py``)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "finish", **record_of(self)}


InspectionEvent = PrefillProgress | InspectionStart | InspectedToken | InspectionEnd
