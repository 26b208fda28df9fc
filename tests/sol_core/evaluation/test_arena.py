"""Schedules on one passage: against plain scoring and evaluation, and what may be submitted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sol_core.actions import DENSE, Action, ActionGrid, Budget
from sol_core.comparing.methods import PlannedRows
from sol_core.comparing.rollout import Layout, prefill_texts, roll_out
from sol_core.comparing.scoring import ScoreCase, dense_nll, score_case
from sol_core.decoding.loop import DecodeOptions
from sol_core.errors import ConfigError, ContextLengthError, PolicyError
from sol_core.evaluation.arena import (
    DENSE_NAME,
    Arena,
    Passage,
    ScheduleScore,
    best_of,
    check_schedule,
    mean_spend,
    rivals,
)
from sol_core.models.loading import LanguageModel
from tests.sol_core.evaluation_stand_ins import GRID, contender, score_alone
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 20
TOKENS = tuple((37 * n) % 251 for n in range(60))
PASSAGE = Passage(TOKENS, STEPS)
BUDGET = Budget(0.5, 0.65, 9.0)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture(scope="module")
def arena(model: LanguageModel) -> Arena:
    return Arena(model, PASSAGE, GRID)


@pytest.fixture(scope="module")
def played(arena: Arena) -> tuple[Action, ...]:
    return arena.play(contender()[0], BUDGET)


def test_scores_are_those_of_plain_scoring(
    model: LanguageModel, arena: Arena, played: tuple[Action, ...]
) -> None:
    schedules = {"policy": played, **rivals(played, GRID, num_random=2, seed=0)}
    scores = arena.score(schedules)
    assert list(scores) == [DENSE_NAME, "policy", "static", "random 1", "random 2"]
    plans = tuple(score.actions for score in scores.values())
    assert plans == ((DENSE,) * STEPS, *schedules.values())
    case = ScoreCase(TOKENS, PASSAGE.before - 1, plans, GRID.page_size)
    for score, nll in zip(scores.values(), score_case(model, case), strict=True):
        assert list(score.nll) == pytest.approx(
            nll, abs=2e-3
        )  # a CPU with AMX sums in another order
        assert score.mean_nll == pytest.approx(sum(nll) / STEPS, abs=1e-4)
    assert scores[DENSE_NAME].kl == (0.0,) * STEPS
    assert min(scores["static"].kl) >= 0
    assert scores["static"].mean_kl > 0


def test_scores_are_those_of_the_evaluation(
    model: LanguageModel, arena: Arena, played: tuple[Action, ...]
) -> None:
    plans = [(DENSE,) * STEPS, played]
    layout = Layout(PASSAGE.before - 1, STEPS)
    prefix = prefill_texts(model.lm, torch.tensor([TOKENS]), layout, GRID, observe=True)
    options = DecodeOptions(STEPS, GRID.mechanisms, rows_per_sequence=2)
    expected = roll_out(model.lm, prefix, PlannedRows(plans), options)
    score = arena.score({"you": played})["you"]
    assert list(score.nll) == pytest.approx(expected.nll[0, 1].tolist(), abs=1e-5)
    assert list(score.kl) == pytest.approx(expected.kl[0, 1].tolist(), abs=1e-5)
    assert list(score.entropy) == pytest.approx(expected.dense_entropy[0].tolist(), abs=1e-5)


def test_scores_are_those_of_each_schedule_alone(
    model: LanguageModel, arena: Arena, played: tuple[Action, ...]
) -> None:
    others = rivals(played, GRID, num_random=2, seed=0)
    for name, score in arena.score(others).items():
        actions = others.get(name, (DENSE,) * STEPS)
        nll, kl = score_alone(model.lm, TOKENS, PASSAGE.before - 1, actions)
        # Sums have another order: of quantised activations, one may be rounded the other way.
        apart = 1e-4 if name == DENSE_NAME else 5e-3
        assert list(score.nll) == pytest.approx(nll, abs=apart)
        assert list(score.kl) == pytest.approx(kl, abs=apart)


def test_the_same_schedule_twice_in_a_batch_is_a_draw(
    arena: Arena, played: tuple[Action, ...]
) -> None:
    others = rivals(played, GRID, num_random=3, seed=0)
    scores = arena.score({"you": played, "policy": played, **others})
    assert scores["you"] == scores["policy"]
    again = arena.score({"you": others["static"], "policy": played, **others})
    assert again["policy"] == scores["policy"], "the others do not depend on what you paint"
    assert again["you"] == again["static"]


def test_what_a_policy_did_decides_what_rivals_spend(played: tuple[Action, ...]) -> None:
    assert len(set(played)) > 1
    found = rivals(played, GRID, num_random=10, seed=0)
    assert list(found) == ["static", *(f"random {number}" for number in range(1, 11))]
    for schedule in found.values():
        assert mean_spend(schedule).as_tuple() == pytest.approx(mean_spend(played).as_tuple())
        check_schedule(schedule, mean_spend(played), GRID)
    assert len(set(found.values())) == 11
    assert found == rivals(played, GRID, num_random=10, seed=0)
    assert found["random 1"] != rivals(played, GRID, num_random=1, seed=1)["random 1"]


def test_a_policy_of_another_grid_and_schedules_that_do_not_fit_are_refused(
    arena: Arena, played: tuple[Action, ...]
) -> None:
    with pytest.raises(PolicyError, match="another grid"):
        arena.play(contender(grid=ActionGrid(page_size=16))[0], BUDGET)
    with pytest.raises(ConfigError, match="it needs 20"):
        arena.score({"you": played[1:]})
    with pytest.raises(ConfigError, match="a name other than 'dense'"):
        arena.score({"dense": played})


@pytest.mark.parametrize(
    ("tokens", "steps", "problem"),
    [((1, 2, 3), 2, "two tokens before it"), ((1, 2, 3), 0, "at least one token to decode")],
)
def test_passages_need_a_context_and_something_to_decode(
    tokens: tuple[int, ...], steps: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Passage(tokens, steps)


def test_tokens_that_do_not_fit_the_model_are_refused(model: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        Arena(model, Passage((1, 2, 900), 1), GRID)
    with pytest.raises(ContextLengthError, match="shorten the text"):
        Arena(model, Passage((1,) * 300, 16), GRID)


def test_a_schedule_within_the_budget_passes_and_one_level_more_does_not() -> None:
    limit = Budget(0.5, 0.6, 8.0)
    even = [Action(0.4, 0.6, 8), Action(0.6, 0.6, 8)] * 8
    check_schedule(even, limit, GRID)
    with pytest.raises(ConfigError, match=r"keep_fraction by 0\.1\. Lower"):
        check_schedule([*even[:-1], Action(0.7, 0.6, 8)], limit, GRID)
    with pytest.raises(ConfigError, match=r"channel_keep_ratio by 0\.05, bit_width by 2"):
        check_schedule([*even[:-1], Action(0.1, 0.65, 10)], limit, GRID)
    with pytest.raises(ConfigError, match=r"step 0: keep_fraction must be one of"):
        check_schedule([Action(0.45, 0.6, 8), *even[1:]], limit, GRID)


def test_the_best_stays_closest_to_dense() -> None:
    def score(kl: float) -> ScheduleScore:
        return ScheduleScore((DENSE,), (1.0,), (kl,), (1.0,))

    assert best_of({"a": score(0.3), "b": score(0.1), "c": score(0.2)}) == "b"


@pytest.mark.parametrize("first", [1, 25, 59])
def test_dense_nll_is_scoring_with_dense_steps(
    model: LanguageModel, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sol_core.comparing.scoring.DENSE_CHUNK", 13
    )  # chunks end on both sides of first
    case = ScoreCase(TOKENS, first - 1, ((DENSE,) * (len(TOKENS) - first),))
    found = dense_nll(model, TOKENS, first)
    np.testing.assert_allclose(found, score_case(model, case)[0], atol=1e-4)


def test_dense_nll_refuses_what_it_cannot_score(model: LanguageModel) -> None:
    for first in (0, 60):
        with pytest.raises(ConfigError, match="between 1 and 59"):
            dense_nll(model, TOKENS, first)
    with pytest.raises(ContextLengthError):
        dense_nll(model, [1] * 300, 2)
