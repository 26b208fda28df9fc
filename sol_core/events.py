"""Frozen records that a generation yields; the app sees nothing else of it.

Times are in milliseconds, information is in nats. Costs are per decode step and *computed* from
the cost model (``cost.py``), never measured.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, fields
from operator import add, attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sol_core.actions import Action, Spend, record_of
from sol_core.fields import added_field

if TYPE_CHECKING:
    from torch import Tensor

# "time_limit": the caller ran out of time.
FinishReason = Literal[
    "length", "end_of_text", "stop_string", "context_full", "stopped", "time_limit"
]


@dataclass(frozen=True, slots=True)
class StepCost:
    """Floating-point operations (a multiply-add counts as 2) and bytes read, by part.

    Attributes:
        bit_operations: multiply-adds × weight bits × activation bits, summed over all parts (BOPs);
            0 in records made before they were counted.
    """

    attention_flops: float = 0.0
    mlp_flops: float = 0.0
    head_flops: float = 0.0
    policy_flops: float = 0.0
    attention_bytes: float = 0.0
    mlp_bytes: float = 0.0
    head_bytes: float = 0.0
    policy_bytes: float = 0.0
    bit_operations: float = 0.0

    @property
    def flops(self) -> float:
        return self.attention_flops + self.mlp_flops + self.head_flops + self.policy_flops

    @property
    def bytes_read(self) -> float:
        return self.attention_bytes + self.mlp_bytes + self.head_bytes + self.policy_bytes

    def __add__(self, other: StepCost) -> StepCost:
        return StepCost(*map(add, _values(self), _values(other)))


@dataclass(frozen=True, slots=True)
class PartTimes:
    """Measured milliseconds of one decode step, all rows together; they add up to the step.

    Attributes:
        attention, mlp: on a GPU, timed apart in every fifth layer and split alike in the others.
    """

    attention: float  # with its norm, projections, cache write and output
    mlp: float  # with its norm
    head: float  # the product with the vocabulary
    policy: float  # choosing the actions, under any schedule
    rest: float  # embedding, sampling, comparing rows, and time between the parts


@dataclass(frozen=True, slots=True)
class PageReads:
    """Pages of the KV cache that one row's step read, layer by layer.

    At most 1 kB as JSON, plus a byte per page, if a configuration requested it; exact, with one
    cell per page, if ``generate`` did.

    Attributes:
        cells: cells per layer, in page order; each covers at most ``ceil(pages / cells)`` pages.
        levels: base64 of L · cells two-bit numbers, layer after layer, the first in a byte's
            lowest bits: 0 if no KV head read any page of the cell, 3 if all heads read all of it,
            else 1 or 2 for the fraction of (page, KV head) pairs read, rounded up.
        by_page: one base64 digit per page, the fraction of (layer, KV head) pairs that read it, in
            63rds; "" if every page was read in full, and in older records.
    """

    pages: int  # pages in the cache, this step's token included
    cells: int
    levels: str
    share: float  # fraction of all (page, KV head) pairs that were read, over all layers
    by_page: str = ""

    def lists(self, num_layers: int) -> list[list[int]]:
        """Pages that any head read, per layer; a cell that was read counts with all its pages."""
        packed = base64.b64decode(self.levels)
        levels = [byte >> shift & 3 for byte in packed for shift in (0, 2, 4, 6)]
        width = -(-self.pages // self.cells)
        return [
            [page for page in range(self.pages) if levels[layer * self.cells + page // width]]
            for layer in range(num_layers)
        ]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the most probable tokens of the model's own distribution (temperature 1)."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class SideEvent:
    """A step as a side row saw it, under its own schedule and its own KV cache."""

    name: str
    action: Action
    surprisal: float
    entropy: float
    kl_to_dense: float | None
    choice: Alternative | None = None  # its most probable token; None in older records


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """A chunk of the prompt was read, and more follow.

    Attributes:
        tokens_read: prompt tokens read so far, including those reused from an earlier text.
        prompt_tokens: all prompt tokens except the last, which the first decode step feeds.
        seconds_left: estimated time for the rest.
    """

    tokens_read: int
    prompt_tokens: int
    seconds_left: float

    @property
    def words(self) -> str:
        """Describe the progress: "1,024 of 7,257 tokens read, about 14 s left"."""
        read, left = f"{self.tokens_read:,} of {self.prompt_tokens:,}", round(self.seconds_left)
        return f"{read} tokens read, about {left} s left"


@dataclass(frozen=True, slots=True)
class PrefillEvent:
    """The dense pass over the prompt is done; decoding starts.

    Attributes:
        prompt_tokens: tokens of the prompt, the chat template's included.
        prompt_text: the prompt as text.
        page_texts: the prompt split by pages of the KV cache, without special tokens; empty unless
            page reads were requested.
        elapsed_ms: measured milliseconds since the generation began.
        cost: computed cost of the pass over the tokens that were read.
        reused_tokens: tokens whose keys and values were reused from an earlier text.
    """

    prompt_tokens: int
    prompt_text: str
    elapsed_ms: float
    cost: StepCost
    page_texts: tuple[str, ...] = ()
    reused_tokens: int = added_field(0)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A generated token and what its decode step spent.

    Attributes:
        index: 0-based number of the token within the generation.
        token_id: id in the tokenizer's vocabulary.
        text: what this token adds to the visible text; "" while a multi-token character is
            incomplete (the token that completes it carries it). A special token, such as
            end-of-text, is spelled out here but left out of the whole text.
        action: the limits of the decode step that produced this token.
        surprisal: −log p(token) under that step, temperature 1, nats.
        entropy: entropy of that step's distribution, nats.
        top: the five most probable tokens, best first.
        kl_to_dense: KL(dense ‖ this step), nats; None unless a dense side row runs.
        side: the same step under each side row.
        step_ms: measured wall time of the whole step (all rows, sampling included).
        elapsed_ms: measured wall time since the generation began.
        cost: computed cost of this step at its action.
        dense_cost: computed cost of the same step done densely.
        cached_tokens: KV cache length that the step attended over, its own input included.
        policy: the policy's probability of each level, per axis; None for other schedules.
        parts_ms: ``step_ms`` by part.
        page_reads: pages that this row read; None unless requested
            (``GenerationConfig.page_reads``).
    """

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"refreshed": bool}

    index: int
    token_id: int
    text: str
    action: Action
    surprisal: float
    entropy: float
    top: tuple[Alternative, ...]
    kl_to_dense: float | None
    side: tuple[SideEvent, ...]
    step_ms: float
    elapsed_ms: float
    cost: StepCost
    dense_cost: StepCost
    cached_tokens: int
    policy: tuple[tuple[float, ...], ...] | None = None
    parts_ms: PartTimes | None = None
    page_reads: PageReads | None = None


@dataclass(frozen=True, slots=True)
class RecordedTokenEvent(TokenEvent):
    """A token with the fp32 tensors that ``generate(…, record=…)`` kept; None if not requested.

    Attributes:
        hidden_states: [num_layers + 1, C] for the token that the step fed, as in transformers: the
            residual stream before each layer, and the last one after the final norm.
        attention: [num_layers, H, P], the fraction of each query head's attention that a page
            gets; 0 if the step did not read it.
    """

    hidden_states: Tensor | None = field(default=None, compare=False, repr=False)
    attention: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FinishEvent:
    """The generation ended.

    Attributes:
        reason: why it ended.
        text: the whole generated text, without the stop string and special tokens.
        num_tokens: number of generated tokens, special ones included.
        spend: achieved mean over the decode steps; None without tokens.
        prefill_ms, decode_ms: measured milliseconds of the dense pass, and of all decode steps.
        tokens_per_s: generated tokens per second of measured decode time.
        cost, dense_cost: computed cost of all steps at their actions, and of the same steps dense.
        made_on: versions and machine (``provenance.py``); None in older records.
        left_at: measured context at which the policy has no certain gain at this budget, so static
            took every step; None if the policy took them.
    """

    reason: FinishReason
    text: str
    num_tokens: int
    spend: Spend | None
    prefill_ms: float
    decode_ms: float
    tokens_per_s: float
    cost: StepCost
    dense_cost: StepCost
    made_on: dict[str, Any] | None = added_field(None)
    left_at: float | None = added_field(None)


Event = PrefillProgress | PrefillEvent | TokenEvent | FinishEvent


def event_to_dict(event: Event) -> dict[str, Any]:
    """Convert an event to plain JSON, without recorded tensors."""
    if isinstance(event, RecordedTokenEvent):
        event = TokenEvent(**{part.name: getattr(event, part.name) for part in fields(TokenEvent)})
    record = {"type": _EVENT_NAMES[type(event)], **record_of(event)}
    for key in ("cost", "dense_cost"):
        cost = getattr(event, key, None)
        if isinstance(cost, StepCost):
            record[key] |= {"flops": cost.flops, "bytes_read": cost.bytes_read}
    return record


_EVENT_NAMES: dict[type, str] = {
    PrefillProgress: "prefilling",
    PrefillEvent: "prefill",
    TokenEvent: "token",
    FinishEvent: "finish",
}
_values = attrgetter(*(part.name for part in fields(StepCost)))
