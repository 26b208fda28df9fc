"""Makes a recording, such as the one that ships, with the default model:

python -m tests.app.recordings.recorder > app/recordings/shipped.json
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from sol_core.actions import AXES, SHARE_GRID, ActionGrid, Budget, grid_named
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.events import FinishEvent, TokenEvent

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

PROMPT = "What is the capital of Japan, and what is it known for?"
MAX_NEW_TOKENS = 96
TEXTS = 10  # from dense to the lowest share that any mix reads after the prompt


class RecordedStep(NamedTuple):
    """Reads of one step: bits, channels, bytes as shares of a dense step's, and ``PageReads``."""

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
    """One greedy generation; bytes are shares of what the same steps read densely.

    Attributes:
        spend: attention kept and channels kept in percent, and bits, means of its steps.
        same: tokens before the first that is another than dense's.
    """

    asked: float
    spend: tuple[float, ...]
    share: float
    same: int
    tokens: tuple[str, ...]
    costs: tuple[float, ...]
    steps: tuple[RecordedStep, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """One prompt under several budgets: the first text is dense's, the others read less."""

    model: str
    prompt: str
    texts: tuple[RecordedText, ...]


def make_recording(
    model: LanguageModel,
    prompt: str = PROMPT,
    *,
    count: int = TEXTS,
) -> Recording:
    """Generate a text densely, and others under shares of the bytes, evenly apart."""
    from sol_core.budgets import mix_table
    from sol_core.generation.engine import encode_prompt, generate

    config = GenerationConfig(
        schedule=ScheduleConfig("dense"),
        sampling=SamplingConfig(repetition_penalty=1.1),  # the page's
        grid=grid_named(SHARE_GRID),
        max_new_tokens=MAX_NEW_TOKENS,
        chat=True,
        page_reads=True,
    )
    mixes = mix_table(model, config.grid)
    context = len(encode_prompt(model, prompt, chat=True))
    lowest = math.ceil(100 * mixes.lowest(context)) / 100
    dense: list[TokenEvent] = []
    texts: list[RecordedText] = []
    for number in range(count):
        asked = round(1 - (1 - lowest) * number / (count - 1), 2)
        if texts:
            config = replace(config, schedule=ScheduleConfig("static", Budget.share(asked)))
        events = list(generate(model, prompt, config))
        tokens = [event for event in events if isinstance(event, TokenEvent)]
        tokens = _without_end(tokens, events[-1])
        dense = dense or tokens
        steps = tuple(_recorded_step(token, config.grid) for token in tokens)
        texts.append(_recorded(asked, tokens, dense, steps))
    return Recording(model.name, prompt, tuple(texts))


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
    asked: float, tokens: list[TokenEvent], dense: list[TokenEvent], steps: tuple[RecordedStep, ...]
) -> RecordedText:
    read = sum(token.cost.bytes_read for token in tokens)
    all_of_it = sum(token.dense_cost.bytes_read for token in tokens)
    same = 0
    for mine, other in zip(tokens, dense, strict=False):
        if mine.token_id != other.token_id:
            break
        same += 1
    actions = [token.action.as_tuple() for token in tokens]
    return RecordedText(
        asked=asked,
        spend=tuple(
            round(axis.scale * sum(values) / len(actions), 1)
            for axis, values in zip(AXES, zip(*actions, strict=True), strict=True)
        ),
        share=round(read / all_of_it, 4),
        same=same,
        tokens=tuple(token.text for token in tokens),
        costs=tuple(
            round(token.cost.bytes_read / token.dense_cost.bytes_read, 3) for token in tokens
        ),
        steps=steps,
    )


if __name__ == "__main__":
    from sol_core import load_model

    recording = make_recording(load_model())
    json.dump(asdict(recording), sys.stdout, ensure_ascii=False, separators=(",", ":"))
