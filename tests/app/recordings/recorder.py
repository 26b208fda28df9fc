"""Makes the recordings that ship for this machine's maker, with the default model on its CPU:

python -m tests.app.recordings.recorder
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.results.shipped import prompt_of, recording_file, recording_name
from sol_core.actions import AXES, DEFAULT_GRID, Budget, grid_named
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import FinishEvent, PrefillEvent, PrefillProgress, TokenEvent
from sol_core.generation.sequence import base64_digits

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

FloatArray = NDArray[np.float64]
DTYPES = "bfloat16", "float32"
QUESTIONS = (
    ("What colour is the lighthouse door?", "The door of the lighthouse is"),
    ("What does the teacher play on Sunday?", "On Sunday he plays the"),
    ("When was the bridge finished?", "The bridge of grey stone was finished in"),
)
MAX_NEW_TOKENS = 5
STOP_STRINGS = ("\n", ".")
# From dense to the lowest that a mix reads after the story, whole percents as the form has them;
# without shares where a last bit decides which answers break (docs/decisions.md).
_BF16 = (1.0, 0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.57)
SHARES = {
    "bfloat16-intel": (*_BF16, 0.54, 0.48),
    "bfloat16-amd": (*_BF16, 0.52, 0.48),
    "float32": (1.0, 0.86, 0.8, 0.7, 0.6, 0.55, 0.5, 0.46, 0.44, 0.42),
}


class RecordedStep(NamedTuple):
    """What one step read, as in ``PageReads``."""

    pages: int
    share: float
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
        needs: a base64 digit per page of the story, as of ``PageReads.by_page``: how much of the
            full model's probability of its first token goes without the page, rounded down.
        fact: the page of the story that this token needs most.
    """

    question: str
    stem: str
    tokens: int  # of the whole prompt
    needs: str
    fact: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Questions about one story under several budgets: the first is dense, the others read less.

    Attributes:
        machine: CPU and threads, as ``ModelStatus.facts`` names them.
        pages: the story, page by page of the KV cache.
    """

    model: str
    dtype: str
    machine: str
    max_new_tokens: int
    stop_strings: tuple[str, ...]
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


def answers_at(model: LanguageModel, shares: Sequence[float]) -> list[list[Answered]]:
    """The answers to all questions at each share, of which 1 is dense."""
    return [answers_under(model, Budget.share(share) if share < 1 else None) for share in shares]


def answer_config(budget: Budget | None) -> GenerationConfig:
    """How a question is answered under a budget, without one densely."""
    return GenerationConfig(
        schedule=ScheduleConfig("static", budget) if budget else ScheduleConfig("dense"),
        grid=grid_named(DEFAULT_GRID),
        max_new_tokens=MAX_NEW_TOKENS,
        stop_strings=STOP_STRINGS,
        page_reads=True,
    )


def answers_under(model: LanguageModel, budget: Budget | None) -> list[Answered]:
    """The answers to all questions; a prompt is read once."""
    config, story = answer_config(budget), story_text()
    return [_answer(model, prompt_of(story, *question), config) for question in QUESTIONS]


def make_recording(model: LanguageModel, shares: Sequence[float]) -> Recording:
    """Answer all questions densely, and under shares of the bytes."""
    from sol_core.models.tuning import machine_name

    story, grid = story_text(), grid_named(DEFAULT_GRID)
    answers = answers_at(model, shares)
    dense = answers[0]
    story_tokens = len(model.encode(story, add_special_tokens=False))
    num_pages = -(-story_tokens // grid.page_size)
    needs = [
        _needs(model, prompt_of(story, *question), answered)[:num_pages]
        for question, answered in zip(QUESTIONS, dense, strict=True)
    ]
    questions = tuple(
        RecordedQuestion(
            *question,
            tokens=answered.prefill.prompt_tokens,
            needs=base64_digits(np.floor(63 * need) / 63),
            fact=1 + int(need[1:].argmax()),
        )
        for question, answered, need in zip(QUESTIONS, dense, needs, strict=True)
    )
    return Recording(
        model=model.name,
        dtype=model.dtype_name,
        machine=machine_name(),
        max_new_tokens=MAX_NEW_TOKENS,
        stop_strings=STOP_STRINGS,
        story=story,
        page_size=grid.page_size,
        pages=dense[0].prefill.page_texts[:num_pages],
        questions=questions,
        texts=tuple(
            _recorded(share, answered, dense)
            for share, answered in zip(shares, answers, strict=True)
        ),
    )


def _answer(model: LanguageModel, prompt: str, config: GenerationConfig) -> Answered:
    """The first line, without the token that ends it."""
    from sol_core.generation.engine import generate

    events = list(generate(model, prompt, config))
    prefill, *tokens, last = (e for e in events if not isinstance(e, PrefillProgress))
    assert isinstance(prefill, PrefillEvent)
    assert isinstance(last, FinishEvent)
    kept = [token for token in tokens if isinstance(token, TokenEvent)]
    if last.reason in ("end_of_text", "stop_string") and len(kept) > 1:
        kept.pop()
    return Answered(prefill, kept)


def _needs(model: LanguageModel, prompt: str, answered: Answered) -> FloatArray:
    """How much of the first token's probability goes without each page of the prompt, 0 to 1."""
    from sol_core.actions import DENSE
    from sol_core.generation.engine import encode_prompt
    from sol_core.lens.engine import Lens
    from sol_core.lens.records import LensRun

    tokens = *encode_prompt(model, prompt, chat=False), answered.tokens[0].token_id
    lens = Lens(model, LensRun(tokens, (DENSE,), grid_named(DEFAULT_GRID)))
    effects = lens.page_effects(0, most=len(tokens)).effects
    return np.array([max(1 - math.exp(-effect.nll_change), 0.0) for effect in effects])


def _recorded_step(token: TokenEvent) -> RecordedStep:
    reads = token.page_reads
    assert reads is not None  # asked for
    return RecordedStep(reads.pages, round(reads.share, 4), reads.by_page)


def _recorded(asked: float, answers: Sequence[Answered], dense: Sequence[Answered]) -> RecordedText:
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
            _recorded_answer(one.tokens, other.tokens)
            for one, other in zip(answers, dense, strict=True)
        ),
    )


def _recorded_answer(tokens: Sequence[TokenEvent], dense: Sequence[TokenEvent]) -> RecordedAnswer:
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
        steps=tuple(_recorded_step(token) for token in tokens),
    )


if __name__ == "__main__":
    from sol_core import load_model

    for dtype in DTYPES:
        name = recording_name(dtype)
        recording = make_recording(load_model(dtype=dtype, device="cpu"), SHARES[name])
        text = json.dumps(asdict(recording), ensure_ascii=False, separators=(",", ":"))
        recording_file(name).write_text(text, encoding="utf-8")
