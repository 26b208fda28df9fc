"""Tokens that are given after the prompt: put in instead of drawn, decoded as all others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sol_core.actions import Budget
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError
from sol_core.events import TokenEvent
from sol_core.generation.engine import generate
from sol_core.models.loading import LanguageModel
from tests.support.tiny_language_model import make_language_model

AT = 9
# A schedule and a sampler with a state of their own.
CONFIG = GenerationConfig(
    schedule=ScheduleConfig("random", Budget(0.5, 0.6, 8.0), seed=5),
    side_rows=(SideRowConfig("dense", ScheduleConfig("dense")),),
    sampling=SamplingConfig(temperature=1.0, top_p=0.95, repetition_penalty=1.2, seed=3),
    max_new_tokens=20,
    ignore_end_of_text=True,
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


def made(model: LanguageModel, **changes: Any) -> list[TokenEvent]:
    events = generate(model, "Once upon a time", replace(CONFIG, **changes))
    return [event for event in events if isinstance(event, TokenEvent)]


def measured(events: list[TokenEvent]) -> list[Any]:
    return [(one.token_id, one.action, one.surprisal, one.kl_to_dense) for one in events]


def test_a_run_given_its_own_first_tokens_is_the_same_run(model: LanguageModel) -> None:
    whole = made(model)
    again = made(model, given=tuple(one.token_id for one in whole[:AT]))
    assert measured(again) == measured(whole)


def test_another_token_changes_what_follows_and_nothing_before(model: LanguageModel) -> None:
    whole = made(model)
    other = whole[AT].top[1].token_id
    assert other != whole[AT].token_id
    fork = made(model, given=(*(one.token_id for one in whole[:AT]), other))
    assert measured(fork[:AT]) == measured(whole[:AT])
    assert fork[AT].token_id == other
    assert fork[AT].action == whole[AT].action
    assert fork[AT].top == whole[AT].top  # it was put in after the step
    assert [one.token_id for one in fork[AT + 1 :]] != [one.token_id for one in whole[AT + 1 :]]
    assert len(fork) == len(whole)


def test_a_given_token_that_ends_the_text_ends_the_run(model: LanguageModel) -> None:
    end = min(model.end_of_text_ids)
    assert len(made(model, given=(7, end), ignore_end_of_text=False)) == 2


def test_tokens_that_cannot_be_given_are_refused(model: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="outside the vocabulary of"):
        made(model, given=(model.spec.vocab_size,))
    with pytest.raises(ConfigError, match="given"):
        replace(CONFIG, given=(-1,))
    with pytest.raises(ConfigError, match="at most 20 tokens are made, 21 are given"):
        replace(CONFIG, given=(1,) * 21)
