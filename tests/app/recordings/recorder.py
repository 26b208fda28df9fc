"""Makes a recording, such as the one that ships, with the default model:

python -m tests.app.recordings.recorder > app/results/measured/recording.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.results.shipped import prompt_of
from sol_core.actions import AXES, SHARE_GRID, ActionGrid, Budget, grid_named
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import FinishEvent, PrefillEvent, TokenEvent

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

QUESTIONS = (
    ("How far can the lamp be seen?", "The lamp can be seen for"),
    ("When was the bridge finished?", "The bridge of grey stone was finished in"),
    ("What is the doctor's horse called?", "The doctor's horse is called"),
)
MAX_NEW_TOKENS = 5
# From dense to the lowest that any mix reads after the story; closer together where answers break.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.43, 0.42, 0.41, 0.4, 0.39)


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
    by_page: str


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One greedy generation; costs are shares of what the same steps read densely.

    Attributes:
        same: tokens before the first that is another than dense's.
    """

    same: int
    tokens: tuple[str, ...]
    costs: tuple[float, ...]
    steps: tuple[RecordedStep, ...]


@dataclass(frozen=True, slots=True)
class RecordedText:
    """The answers to all questions under one budget.

    Attributes:
        spend: attention kept and channels kept in percent, and bits, means of all steps.
        share: of the bytes that the same steps read densely.
    """

    asked: float
    spend: tuple[float, ...]
    share: float
    answers: tuple[RecordedAnswer, ...]


@dataclass(frozen=True, slots=True)
class RecordedQuestion:
    """A question after the story, and how its answer begins.

    Attributes:
        fact: the page of the story that matters most to the answer's first token, each left out in
            turn.
    """

    question: str
    stem: str
    tokens: int  # of the whole prompt
    fact: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Questions about one story under several budgets: the first is dense, the others read less.

    Attributes:
        pages: the story, page by page of the KV cache.
    """

    model: str
    story: str
    page_size: int
    pages: tuple[str, ...]
    questions: tuple[RecordedQuestion, ...]
    texts: tuple[RecordedText, ...]


class Answered(NamedTuple):
    """A prompt's pages, and the tokens that followed."""

    prefill: PrefillEvent
    tokens: list[TokenEvent]


def story_text() -> str:
    """The story that ships."""
    return Path(__file__).with_name("story.txt").read_text(encoding="utf-8").strip()


def make_recording(
    model: LanguageModel,
    story: str,
    questions: Sequence[tuple[str, str]] = QUESTIONS,
    shares: Sequence[float] = SHARES,
) -> Recording:
    """Answer all questions densely, and under shares of the bytes."""
    config = GenerationConfig(
        schedule=ScheduleConfig("dense"),
        grid=grid_named(SHARE_GRID),
        max_new_tokens=MAX_NEW_TOKENS,
        stop_strings=("\n", "."),
        page_reads=True,
    )
    prompts = [prompt_of(story, *question) for question in questions]
    dense = [_answer(model, prompt, config) for prompt in prompts]
    texts = []
    for asked in shares:
        answers = dense
        if asked < 1:
            config = replace(config, schedule=ScheduleConfig("static", Budget.share(asked)))
            answers = [_answer(model, prompt, config) for prompt in prompts]
        texts.append(_recorded(asked, answers, dense, config.grid_in_use))
    size = config.grid_in_use.page_size
    story_tokens = len(model.encode(story, add_special_tokens=False))
    recorded = [
        RecordedQuestion(*question, answered.prefill.prompt_tokens, _fact(model, prompt, answered))
        for question, prompt, answered in zip(questions, prompts, dense, strict=True)
    ]
    pages = dense[0].prefill.page_texts[: -(-story_tokens // size)]
    return Recording(model.name, story, size, pages, tuple(recorded), tuple(texts))


def _answer(model: LanguageModel, prompt: str, config: GenerationConfig) -> Answered:
    """The first line, without the token that ends it."""
    from sol_core.generation.engine import generate

    prefill, *tokens, last = generate(model, prompt, config)
    assert isinstance(prefill, PrefillEvent)
    assert isinstance(last, FinishEvent)
    kept = [token for token in tokens if isinstance(token, TokenEvent)]
    if last.reason in ("end_of_text", "stop_string") and len(kept) > 1:
        kept.pop()
    return Answered(prefill, kept)


def _fact(model: LanguageModel, prompt: str, answered: Answered) -> int:
    from sol_core.actions import DENSE
    from sol_core.generation.engine import encode_prompt
    from sol_core.lens.engine import Lens
    from sol_core.lens.records import LensRun

    tokens = *encode_prompt(model, prompt, chat=False), answered.tokens[0].token_id
    lens = Lens(model, LensRun(tokens, (DENSE,), grid_named(SHARE_GRID)))
    effects = lens.page_effects(0, most=len(tokens)).effects
    return max(effects[1:], key=lambda effect: effect.kl).pages[0]


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
        by_page=reads.by_page,
    )


def _recorded(
    asked: float, answers: Sequence[Answered], dense: Sequence[Answered], grid: ActionGrid
) -> RecordedText:
    steps = [token for answer in answers for token in answer.tokens]
    read = sum(token.cost.bytes_read for token in steps)
    whole = sum(token.dense_cost.bytes_read for token in steps)
    actions = [token.action.as_tuple() for token in steps]
    return RecordedText(
        asked=asked,
        spend=tuple(
            round(axis.scale * sum(values) / len(actions), 1)
            for axis, values in zip(AXES, zip(*actions, strict=True), strict=True)
        ),
        share=round(read / whole, 4),
        answers=tuple(
            _recorded_answer(one.tokens, other.tokens, grid)
            for one, other in zip(answers, dense, strict=True)
        ),
    )


def _recorded_answer(
    tokens: Sequence[TokenEvent], dense: Sequence[TokenEvent], grid: ActionGrid
) -> RecordedAnswer:
    same = 0
    for mine, other in zip(tokens, dense, strict=False):
        if mine.token_id != other.token_id:
            break
        same += 1
    return RecordedAnswer(
        same=same,
        tokens=tuple(token.text for token in tokens),
        costs=tuple(
            round(token.cost.bytes_read / token.dense_cost.bytes_read, 3) for token in tokens
        ),
        steps=tuple(_recorded_step(token, grid) for token in tokens),
    )


if __name__ == "__main__":
    from sol_core import load_model

    recording = make_recording(load_model(), story_text())
    json.dump(asdict(recording), sys.stdout, ensure_ascii=False, separators=(",", ":"))
