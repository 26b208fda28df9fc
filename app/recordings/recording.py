"""A recording: its record, how it is made, and the shipped one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sol_core.actions import AXES, DEFAULT_GRID, DENSE, ActionGrid, Budget, grid_named
from sol_core.config import (
    POLICY_PREFIX,
    GenerationConfig,
    SamplingConfig,
    ScheduleConfig,
    ScheduleKind,
)
from sol_core.events import FinishEvent, TokenEvent
from sol_core.files.places import SHIPPED_POLICY
from sol_core.policy.files.locate import DEFAULT_POLICY

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

PROMPT = "What is the capital of Japan, and what is it known for?"
MAX_NEW_TOKENS = 96
# From dense to where the default model no longer writes words; half of it is the page's default.
BUDGETS = (
    Budget(*DENSE.as_tuple()),
    Budget(0.85, 0.95, 13),
    Budget(0.7, 0.88, 12),
    Budget(0.6, 0.82, 11),
    Budget(0.5, 0.75, 10),
    Budget(0.4, 0.68, 9),
    Budget(0.3, 0.6, 8),
    Budget(0.22, 0.52, 7),
    Budget(0.15, 0.45, 6),
    Budget(0.1, 0.35, 5.5),
)


class RecordedStep(NamedTuple):
    """Reads of one step, for the picture of it; a list in JSON, since there are a thousand.

    Attributes:
        bits: of the activations.
        input, inner: shares of the MLP's input and inner channels.
        attention, mlp, head, policy: their bytes as shares of what the step reads densely.
        pages, cells, share, levels: as in ``PageReads``.
    """

    bits: float
    input: float
    inner: float
    attention: float
    mlp: float
    head: float
    policy: float
    pages: int
    cells: int
    share: float
    levels: str


@dataclass(frozen=True, slots=True)
class RecordedText:
    """One greedy generation.

    Attributes:
        budget: attention kept and channels kept in percent, and bits, as the form has them.
        share: bytes of all its steps, as a share of the same steps done densely.
        same: tokens before the first that is another than dense's.
        tokens: their texts.
        costs: each step's bytes as a share of the dense step's.
        steps: what each read.
    """

    budget: tuple[float, ...]
    share: float
    same: int
    tokens: tuple[str, ...]
    costs: tuple[float, ...]
    steps: tuple[RecordedStep, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """One prompt under several budgets.

    Attributes:
        model: its name.
        schedule: of all texts but the dense one, as the form has it.
        prompt: a chat message.
        texts: the first is dense's, the others read less and less.
    """

    model: str
    schedule: str
    prompt: str
    texts: tuple[RecordedText, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``js/shared/recording.js`` draws."""
        return asdict(self)


def make_recording(
    model: LanguageModel,
    prompt: str = PROMPT,
    *,
    budgets: Sequence[Budget] = BUDGETS,
    under_policy: bool = True,
    on_text: Callable[[int], None] = lambda done: None,
) -> Recording:
    """Generate a text for each budget.

    Args:
        budgets: of the texts; the first stands for dense.
        under_policy: follow the shipped policy, which is the default model's; else static.
        on_text: hears how many of the texts are there.
    Raises: SolError.
    """
    from sol_core.generation.engine import generate

    config = GenerationConfig(
        schedule=ScheduleConfig("dense"),
        sampling=SamplingConfig(repetition_penalty=1.1),  # the page's
        grid=grid_named(DEFAULT_GRID),
        max_new_tokens=MAX_NEW_TOKENS,
        chat=True,
        page_reads=True,
    )
    kind: ScheduleKind = "policy" if under_policy else "static"
    policy = DEFAULT_POLICY if under_policy else None
    dense: list[TokenEvent] = []
    texts: list[RecordedText] = []
    for budget in budgets:
        if texts:
            config = replace(config, schedule=ScheduleConfig(kind, budget=budget, policy=policy))
        events = list(generate(model, prompt, config, policies=lambda name: SHIPPED_POLICY))
        tokens = [event for event in events if isinstance(event, TokenEvent)]
        tokens = _without_end(tokens, events[-1])
        dense = dense or tokens
        steps = tuple(_recorded_step(token, config.grid) for token in tokens)
        texts.append(_recorded(budget, tokens, dense, steps))
        on_text(len(texts))
    schedule = f"{POLICY_PREFIX}{policy}" if policy else kind
    return Recording(model.name, schedule, prompt, tuple(texts))


def _without_end(tokens: list[TokenEvent], last: object) -> list[TokenEvent]:
    """The tokens but for the one that only ends the text."""
    ends = isinstance(last, FinishEvent) and last.reason == "end_of_text"
    return tokens[:-1] if ends else tokens


def _recorded_step(token: TokenEvent, grid: ActionGrid) -> RecordedStep:
    assert token.page_reads is not None  # asked for
    inputs, inner = grid.mechanisms.mlp_shares(token.action.channel_keep_ratio)
    cost, whole, reads = token.cost, token.dense_cost.bytes_read, token.page_reads
    return RecordedStep(
        bits=token.action.bit_width,
        input=round(inputs, 4),
        inner=round(inner, 4),
        attention=round(cost.attention_bytes / whole, 4),
        mlp=round(cost.mlp_bytes / whole, 4),
        head=round(cost.head_bytes / whole, 4),
        policy=round(cost.policy_bytes / whole, 4),
        pages=reads.pages,
        cells=reads.cells,
        share=round(reads.share, 4),
        levels=reads.levels,
    )


def _recorded(
    budget: Budget,
    tokens: list[TokenEvent],
    dense: list[TokenEvent],
    steps: tuple[RecordedStep, ...],
) -> RecordedText:
    read = sum(token.cost.bytes_read for token in tokens)
    all_of_it = sum(token.dense_cost.bytes_read for token in tokens)
    same = 0
    for mine, other in zip(tokens, dense, strict=False):
        if mine.token_id != other.token_id:
            break
        same += 1
    return RecordedText(
        budget=tuple(
            round(axis.scale * value, 1)
            for axis, value in zip(AXES, budget.as_tuple(), strict=True)
        ),
        share=round(read / all_of_it, 4),
        same=same,
        tokens=tuple(token.text for token in tokens),
        costs=tuple(
            round(token.cost.bytes_read / token.dense_cost.bytes_read, 3) for token in tokens
        ),
        steps=steps,
    )


@cache
def shipped_recording() -> dict[str, Any]:
    """Return the shipped recording of the default model, as ``Recording.to_json`` has it."""
    text = Path(__file__).with_name("shipped.json").read_text(encoding="utf-8")
    recording: dict[str, Any] = json.loads(text)
    return recording
