"""The built-in texts of the Compare page, by the default model's tokens."""

from __future__ import annotations

import pytest

from app.challenges.desk import (
    DEFAULT_BUDGET,
    DEFAULT_STEPS,
    MAX_STEPS,
    MAX_TOKENS,
    MIN_CONTEXT,
    pieces_of,
)
from app.challenges.texts import DAILY, TEXTS
from app.policies.library import SHIPPED_FOLDER
from sol_core.generation.engine import encode_prompt
from sol_core.models.loading import LanguageModel


def beginning(entry: str | dict[str, str]) -> str:
    return entry[:20] if isinstance(entry, str) else str(entry["label"])


@pytest.mark.model
@pytest.mark.parametrize("entry", TEXTS, ids=beginning)
def test_every_text_can_be_painted_to_the_most(
    default_model: LanguageModel, entry: dict[str, str]
) -> None:
    tokens = encode_prompt(default_model, entry["text"], chat=False)
    assert MAX_STEPS + MIN_CONTEXT <= len(tokens) <= MAX_TOKENS
    pieces = pieces_of(default_model, tokens, len(tokens) - MAX_STEPS)
    assert len(pieces) == MAX_STEPS
    assert entry["text"].endswith("".join(pieces).lstrip())


@pytest.mark.model
@pytest.mark.parametrize("text", DAILY, ids=beginning)
def test_on_the_text_of_a_day_the_policy_is_the_one_to_beat(
    default_model: LanguageModel, text: str
) -> None:
    """And an untouched board, everything at its lowest level, comes behind both."""
    from sol_core.actions import Action
    from sol_core.comparing.contenders import load_contenders
    from sol_core.evaluation.arena import Arena, Passage, rivals

    (contender,) = load_contenders(default_model, {"default": SHIPPED_FOLDER})
    tokens = tuple(encode_prompt(default_model, text, chat=False))
    arena = Arena(default_model, Passage(tokens, DEFAULT_STEPS), contender.grid)
    played = arena.play(contender, DEFAULT_BUDGET)
    keep, channels, bits = (levels[0] for levels in contender.grid.levels())
    untouched = [Action(keep, channels, int(bits))] * DEFAULT_STEPS
    static = rivals(played, contender.grid, num_random=0, seed=0)
    scores = arena.score({"policy": played, "untouched": untouched, **static})
    kl = {name: score.mean_kl for name, score in scores.items()}
    assert kl["policy"] < 0.95 * kl["static"]
    assert kl["static"] < kl["untouched"]


def test_days_go_round_texts_that_are_all_different() -> None:
    assert len(set(DAILY)) == len(DAILY) >= 5
