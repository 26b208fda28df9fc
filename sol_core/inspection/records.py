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

MAX_SCHEDULES = 3  # besides the dense row


@configuration
@dataclass(frozen=True, slots=True)
class InspectionConfig(WithGrid):
    """Everything besides the model and the text that determines an inspection.

    Attributes:
        schedules: one to three schedules other than dense; a dense row always comes first.
        grid: levels, page size and mechanisms; None uses the policy's, else the budget's.
        episode_steps: steps per episode; schedulers restart at each.
        prefix_tokens: tokens of the text that are read densely and not scored; at least 1, because
            nothing predicts the first.
        max_tokens: tokens of the text to read; None reads to the end of the context.
        read_pages: record which pages of the KV cache each step read.
        chat: the text is a prompt in the model's chat template; only with ``generated``.
        generated: tokens that a model generated after the text; then only they are scored, and the
            whole text is the prefix.
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
        """Return the rows' names, in the order of each token's scores."""
        return ("dense", *(schedule.name for schedule in self.schedules))

    def as_generation(self) -> GenerationConfig:
        """Return a generation's configuration with these rows: a dense one and side rows."""
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
    prefix: tuple[int, ...]  # token ids that are read and not scored
    prefix_text: str  # the prefix as text, special tokens spelled out
    text_tokens: int  # tokens of the whole text
    scored_tokens: int  # fewer than the rest of the text if it was cut
    elapsed_ms: float  # duration of the dense pass
    reused_tokens: int = added_field(0)  # prefix tokens reused from an earlier text
    page_texts: tuple[str, ...] = added_field(())  # the prefix by page, if pages are recorded

    @property
    def tokens_left_out(self) -> int:
        """Return the number of unscored tokens at the text's end."""
        return self.text_tokens - len(self.prefix) - self.scored_tokens

    def to_dict(self) -> dict[str, Any]:
        return {"type": "prefill", **record_of(self)}


@dataclass(frozen=True, slots=True)
class InspectedRow:
    """The step that predicted a token, under one schedule, on its own KV cache."""

    name: str  # row name, as in ``InspectionStart.rows``
    action: Action  # the step's limits
    nll: float  # −log p(token), nats
    kl: float  # KL(dense ‖ row) of the step's distribution, nats; 0 for the dense row
    entropy: float  # entropy of the row's distribution, nats
    cost: StepCost  # computed cost at its action, the policy's network included
    policy: tuple[tuple[float, ...], ...] | None = None  # probability of each level, per axis
    pages_read: str = added_field("")  # ``PageReads.by_page``; "" if all pages, or not recorded


@dataclass(frozen=True, slots=True)
class InspectedToken:
    """A token of the text under every schedule."""

    index: int  # 0-based index among the scored tokens
    token_id: int  # id in the tokenizer's vocabulary
    text: str  # what the token adds to the visible text; "" while a character is incomplete
    kind: str  # one of ``token_kinds.KINDS``; "code" in older records
    top: tuple[Alternative, ...]  # the dense row's five most probable tokens, best first
    rows: tuple[InspectedRow, ...]  # in the order of ``InspectionStart.rows``; the dense row first
    cached_tokens: int  # KV cache length that the step attended over, its own input included
    step_ms: float  # measured wall time of the step, for all rows
    elapsed_ms: float  # measured wall time since the inspection began

    def to_dict(self) -> dict[str, Any]:
        return {"type": "token", **record_of(self)}


@dataclass(frozen=True, slots=True)
class RowTotals:
    """A schedule's totals over all scored tokens; nll and kl are means per token, nats."""

    name: str
    nll: float
    kl: float
    spend: Spend  # achieved mean
    cost: StepCost  # computed, summed


@dataclass(frozen=True, slots=True)
class MatchedStatic:
    """Static scored again at the bytes that another row read."""

    name: str  # name of that row
    budget: Budget
    nll: tuple[float, ...]  # per scored token, nats
    cost: StepCost  # computed, summed
    kl: tuple[float, ...] = ()  # per scored token, nats; empty in old records


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A listed token and the numbers that put it on the list."""

    index: int  # as in ``InspectedToken``
    text: str
    nll: float  # the row's, nats
    kl: float  # the row's, nats
    loss: float  # NLL of the row minus the dense row's, nats; may be negative
    entropy: float  # the dense row's, nats
    spend: float  # net keep rate of the row's action: mean of attention, channels and bits / 16
    cheaper: str = ""  # for an over-served token, the row that spent less without harm
    cheaper_spend: float | None = None  # that row's net keep rate
    cheaper_kl: float | None = None


@dataclass(frozen=True, slots=True)
class KindSpend:
    """Tokens of one kind under one schedule."""

    kind: str
    tokens: int  # number of tokens
    share: float  # their fraction of all scored tokens
    keep: float  # mean spend per axis, by the axes' short names
    channels: float
    bits: float
    kl: float  # mean KL to dense, nats
    loss: float  # mean NLL minus the dense row's, nats


@dataclass(frozen=True, slots=True)
class RowReport:
    """Where one schedule spent, and where it was needed."""

    name: str
    # Spearman's, per axis, with the dense row's surprisal and entropy; 0 if an axis never varies.
    correlation: dict[str, dict[str, float]]
    kinds: tuple[KindSpend, ...]  # spend by kind of token, without absent kinds
    under_served: tuple[ListedToken, ...]  # lost more than the noise floor, largest loss first
    # Another row spent less and stayed within ``HARMLESS_KL``; largest difference first.
    over_served: tuple[ListedToken, ...]


@dataclass(frozen=True, slots=True)
class DifficultyReport:
    """Spend against difficulty."""

    least_confident: tuple[ListedToken, ...]  # least probable under the dense row
    rows: tuple[RowReport, ...]  # per schedule, without the dense row


@dataclass(frozen=True, slots=True)
class InspectionEnd:
    """The inspection ended."""

    reason: Literal["finished", "stopped", "time_limit"]  # time_limit: the owner ran out of time
    num_tokens: int
    decode_ms: float  # measured, without the prefix
    tokens_per_s: float
    rows: tuple[RowTotals, ...]  # totals per row; empty without tokens
    report: DifficultyReport | None  # None without tokens
    matched: tuple[MatchedStatic, ...] = ()  # for rows that read more or less than static
    verdicts: tuple[Verdict, ...] = added_field(())  # most important first
    made_on: dict[str, Any] | None = added_field(None)  # versions and machine (``provenance.py``)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "finish", **record_of(self)}


InspectionEvent = PrefillProgress | InspectionStart | InspectedToken | InspectionEnd
