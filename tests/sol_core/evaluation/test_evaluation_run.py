"""A whole evaluation on a tiny model, against a naive loop over texts and schedules."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sol_core.actions import DENSE, Action, Budget
from sol_core.comparing.methods import derive_seed
from sol_core.decoding.schedules import Horizon, Observation, RandomScheduler, StaticScheduler
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkFinished, WorkProgress, WorkSample, WorkStopped
from tests.sol_core.evaluation_stand_ins import (
    GRID,
    contender,
    evaluate_contenders,
    random_texts,
    score_alone,
)
from tests.support.tiny_language_model import make_language_model

CONFIG = EvaluationConfig(
    budgets=(Budget(0.5, 0.6, 7), Budget(0.3, 0.8, 6)),
    baselines=("static", "random:3", "emc", "dac"),
    texts=7,
    context=26,
    steps=8,
    seed=3,
)
TEXTS = random_texts(7, 26 + 8 + 1)
Result = dict[str, Any]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture(scope="module")
def result(model: LanguageModel) -> Result:
    *_, last = evaluate_contenders(model, [contender()[0]], CONFIG, TEXTS)
    assert isinstance(last, WorkFinished)
    return last.result


def _spend(schedules: list[list[Action]]) -> np.ndarray:
    return np.asarray([[action.as_tuple() for action in actions] for actions in schedules])


def _policy_schedules(budget: Budget, shift: int = 0) -> list[list[Action]]:
    policy = contender(shift=shift)[1]
    return [
        [policy.action(budget, token) for token in block[CONFIG.context :][: CONFIG.steps]]
        for block in TEXTS.blocks
    ]


def _naive(model: LanguageModel, schedules: list[list[Action]]) -> tuple[np.ndarray, np.ndarray]:
    """NLL and KL [texts, steps]."""
    scores = [
        score_alone(model.lm, block, CONFIG.context, actions)
        for block, actions in zip(TEXTS.blocks, schedules, strict=True)
    ]
    return np.asarray([nll for nll, _ in scores]), np.asarray([kl for _, kl in scores])


@pytest.mark.parametrize("index", [0, 1])
def test_policy_and_baselines_equal_a_naive_loop(
    model: LanguageModel, result: Result, index: int
) -> None:
    budget = CONFIG.budgets[index]
    record = result["budgets"][index]
    policy = _policy_schedules(budget)
    spend = Budget(*_spend(policy).mean((0, 1)).tolist())
    static = StaticScheduler(spend, GRID)
    seeds = [derive_seed(CONFIG.seed, "random", index, number) for number in range(3)]
    horizon = Horizon(16, CONFIG.steps)
    random = [RandomScheduler(spend, GRID, seed=seed, horizon=horizon) for seed in seeds]
    steps = range(CONFIG.steps)
    schedules = {
        "policy": policy,
        "dense": [[DENSE] * CONFIG.steps] * CONFIG.texts,
        "static": [
            [static.next_action(Observation(text * CONFIG.steps + step)) for step in steps]
            for text in range(CONFIG.texts)
        ],
    }
    for name, actions in schedules.items():
        nll, kl = _naive(model, actions)
        found = record["methods"][name]
        assert found["nll"] == pytest.approx(nll.mean(), abs=5e-5)
        assert found["kl"] == pytest.approx(kl.mean(), abs=5e-5)
        assert found["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-4)
        assert list(found["spend"].values()) == pytest.approx(_spend(actions).mean((0, 1)).tolist())
    plans = [
        [[scheduler.next_action(Observation(step)) for step in steps] for _ in TEXTS.blocks]
        for scheduler in random
    ]
    naive = [_naive(model, plan) for plan in plans]
    assert record["random"]["nll"] == pytest.approx([nll.mean() for nll, _ in naive], abs=5e-5)
    assert record["random"]["kl"] == pytest.approx([kl.mean() for _, kl in naive], abs=5e-5)
    best = int(np.argmin([nll.mean() for nll, _ in naive]))
    found = record["methods"]["random_best"]
    assert found["nll"] == pytest.approx(naive[best][0].mean(), abs=5e-5)
    assert found["kl"] == pytest.approx(naive[best][1].mean(), abs=5e-5)
    spend = _spend(plans[best]).mean((0, 1))
    assert list(found["spend"].values()) == pytest.approx(spend.tolist())


def test_paired_numbers_follow_from_the_texts(model: LanguageModel, result: Result) -> None:
    record = result["budgets"][0]
    policy, dense = (
        [scores.mean(-1) for scores in _naive(model, schedules)]
        for schedules in (_policy_schedules(CONFIG.budgets[0]), [[DENSE] * 8] * 7)
    )
    paired = record["paired"]["dense"]
    assert paired["gain"] == pytest.approx((dense[0] - policy[0]).mean(), abs=5e-5)
    assert paired["kl_gain"] == pytest.approx(-policy[1].mean(), abs=5e-5)
    assert paired["win_rate"] == pytest.approx((dense[0] > policy[0]).mean())
    assert paired["low"] <= paired["gain"] <= paired["high"]
    assert paired["kl_low"] < paired["kl_gain"] < paired["kl_high"] < 0
    methods = record["methods"]
    for measure in ("nll", "kl"):
        static, mine, reference = (methods[name][measure] for name in ("static", "policy", "dense"))
        lost = static - reference
        # A random model may do better when it is compressed: then there is nothing to recover.
        share = pytest.approx((static - mine) / lost) if lost > 0 else None
        assert record["recovered"][measure] == share
    assert record["recovered"]["kl"] is not None
    gains = [one["paired"]["static"]["gain"] for one in result["budgets"]]
    rates = [one["paired"]["static"]["win_rate"] for one in result["budgets"]]
    assert result["win_rate"]["static"] == {
        "budgets": sum(gain > 0 for gain in gains) / 2,
        "texts": pytest.approx(sum(rates) / 2),
    }


def test_every_method_spends_what_the_policy_spends(result: Result) -> None:
    for budget in result["budgets"]:
        wanted = budget["methods"]["policy"]["spend"]
        for name in ("static", "random_best", "emc", "dac"):
            method = budget["methods"][name]
            assert method["matched"]
            for axis, half_level in (("keep", 0.05), ("channels", 0.025), ("bits", 0.5)):
                # Of 56 steps; steered rows carry per place.
                assert abs(method["spend"][axis] - wanted[axis]) <= half_level / 8
        assert budget["methods"]["dense"]["spend"] == {"keep": 1.0, "channels": 1.0, "bits": 16.0}
        assert budget["methods"]["dense"]["kl"] == 0
        assert not budget["methods"]["dense"]["matched"]
        assert budget["methods"]["dense"]["net_keep_rate"] == 1
        for name, method in budget["methods"].items():
            for measure in ("nll", "kl"):
                low, high = (method[f"{measure}_{end}"] for end in ("low", "high"))
                if name == "dense":
                    assert low == method[measure] == high
                else:
                    assert low < method[measure] < high


def test_adherence_and_steps_are_of_the_policy(result: Result) -> None:
    for index, record in enumerate(result["budgets"]):
        spend = _spend(_policy_schedules(CONFIG.budgets[index]))
        requested = np.asarray(CONFIG.budgets[index].as_tuple())
        assert list(record["requested"].values()) == requested.tolist()
        gaps = (spend.mean(1) - requested) / np.asarray((1, 1, 16))
        for key, expected in (("gap", gaps.mean(0)), ("episode", np.abs(gaps).mean(0))):
            assert list(record["adherence"][key].values()) == pytest.approx(expected.tolist())
        for number, axis in enumerate(("keep", "channels", "bits")):
            found = record["by_step"][axis], record["by_step"][f"{axis}_sd"]
            assert found[0] == pytest.approx(spend[..., number].mean(0).tolist())
            assert found[1] == pytest.approx(spend[..., number].std(0).tolist())


def test_difficulty_covers_every_token(result: Result) -> None:
    kinds = result["difficulty"]["kinds"]
    assert sum(kind["share"] for kind in kinds.values()) == pytest.approx(1)
    for axis in ("keep", "channels", "bits"):
        means = [one["methods"]["policy"]["spend"][axis] for one in result["budgets"]]
        weighted = sum(kind["share"] * kind[axis] for kind in kinds.values())
        assert weighted == pytest.approx(np.mean(means))
    kl = np.mean([one["methods"]["policy"]["kl"] for one in result["budgets"]])
    assert sum(kind["share"] * kind["kl"] for kind in kinds.values()) == pytest.approx(kl, rel=1e-6)
    for values in result["difficulty"]["correlation"].values():
        assert all(-1 <= value <= 1 for value in values.values())


def test_the_result_is_json_of_schema_1(result: Result) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["schema"] == 1
    assert (result["model"], result["corpus"]) == ("tiny", "random bytes")
    assert (result["texts"], result["context"], result["steps"]) == (7, 26, 8)
    assert result["scored_tokens"] == 56
    assert result["pollution"] is None
    methods = set(result["budgets"][0]["methods"])
    assert methods == {"policy", "static", "dense", "random_best", "emc", "dac"}
    assert set(result["budgets"][0]["paired"]) == methods - {"policy"}


def test_further_policies_and_sampled_actions_ride_along(model: LanguageModel) -> None:
    pairs = [contender("mine"), contender("other", shift=1)]
    config = replace(CONFIG, baselines=(), sampled=True)  # static and dense run all the same
    *_, last = evaluate_contenders(model, [one for one, _ in pairs], config, TEXTS)
    assert isinstance(last, WorkFinished)
    result = last.result
    assert (result["policy"], result["policies"]) == ("mine", ["mine", "other"])
    record = result["budgets"][0]
    methods = record["methods"]
    assert set(methods) == {"policy", "policy_sampled", "policy:other", "static", "dense"}
    assert record["random"] == {"nll": [], "kl": []}
    nll, _ = _naive(model, _policy_schedules(CONFIG.budgets[0], shift=1))
    # The stand-in's sampled actions are those of the other stand-in.
    for name in ("policy_sampled", "policy:other"):
        assert methods[name]["nll"] == pytest.approx(nll.mean(), abs=5e-5)
    assert "policy:other" in result["win_rate"]
    policy = pairs[0][1]
    assert policy.saw_signals
    assert all(policy.saw_signals)
    # 64 rows a batch, and few enough a text that all 7 run at once.
    assert policy.calls == [(14, None), (14, derive_seed(3, "policy_sampled", 0))]


MANY_BATCHES = replace(CONFIG, baselines=("random:60",), seed=0)


def test_progress_rises_and_shows_means_so_far(model: LanguageModel) -> None:
    *progress, last = evaluate_contenders(model, [contender()[0]], MANY_BATCHES, TEXTS)
    assert isinstance(last, WorkFinished)
    shown = [event for event in progress if isinstance(event, WorkProgress)]
    fractions = [event.fraction for event in shown]
    assert fractions == sorted(set(fractions))
    assert 0 < fractions[0] < fractions[-1] == 1
    assert all(event.eta_s is not None and event.eta_s >= 0 for event in shown)
    means = [event.record for event in progress if isinstance(event, WorkSample)]
    assert set(means[0]["budgets"][0]["methods"]) == {"policy", "dense"}
    assert [mean["texts"] for mean in means] == [7, 1, 2, 3, 4, 5, 6, 7]
    for partial, final in zip(means[-1]["budgets"], last.result["budgets"], strict=True):
        for name, scores in partial["methods"].items():
            assert scores["nll"] == final["methods"][name]["nll"]
            assert scores["kl"] == final["methods"][name]["kl"]
    json.dumps(means[-1], allow_nan=False)


def test_it_stops_between_batches(model: LanguageModel) -> None:
    stops = iter([False] * 3 + [True])
    events = evaluate_contenders(
        model, [contender()[0]], MANY_BATCHES, TEXTS, should_stop=lambda: next(stops)
    )
    *reports, last = [event for event in events if not isinstance(event, WorkSample)]
    assert len(reports) == 3
    assert last == WorkStopped()


def test_what_cannot_run_is_refused_before_the_first_event(model: LanguageModel) -> None:
    one = contender()[0]
    outside = EvaluationConfig(budgets=(Budget(0.5, 0.3, 8),))
    with pytest.raises(ConfigError, match=r"MLP kept = 0\.3 is outside the grid's levels"):
        evaluate_contenders(model, [one], outside, TEXTS)
    long = EvaluationConfig(context=250, steps=16)
    with pytest.raises(ContextLengthError, match=r"250 .* and 1 · 16 steps exceed the context"):
        evaluate_contenders(model, [one], long, TEXTS)


@pytest.mark.parametrize("random", [3, 40])
def test_windows_of_a_text_are_rollouts_of_their_own(model: LanguageModel, random: int) -> None:
    """As if every window were a text with its own prefill; a text's windows count as one.

    40 random schedules are more rows than one batch holds.
    """
    baselines = ("static", f"random:{random}", "dac")
    config = replace(CONFIG, baselines=baselines, texts=3, context=13, windows=3)
    texts = random_texts(3, config.block_len, seed=5)
    *_, last = evaluate_contenders(model, [contender()[0]], config, texts)
    assert isinstance(last, WorkFinished)
    result = last.result
    assert (result["texts"], result["windows"], result["scored_tokens"]) == (3, 3, 72)
    policy = contender()[1]
    for index, budget in enumerate(config.budgets):
        record = result["budgets"][index]
        schedules, nll, kl, dense = [], [], [], []
        for block in texts.blocks:
            for start in (13, 21, 29):
                plan = [policy.action(budget, token) for token in block[start : start + 8]]
                scores = score_alone(model.lm, block, start, plan)
                schedules.append(plan)
                nll.append(np.mean(scores[0]))
                kl.append(np.mean(scores[1]))
                dense.append(np.mean(score_alone(model.lm, block, start, [DENSE] * 8)[0]))
        assert record["methods"]["policy"]["nll"] == pytest.approx(np.mean(nll), abs=3e-5)
        assert record["methods"]["policy"]["kl"] == pytest.approx(np.mean(kl), abs=3e-5)
        assert record["methods"]["dense"]["nll"] == pytest.approx(np.mean(dense), abs=3e-5)
        by_text = np.reshape(np.subtract(dense, nll), (3, 3)).mean(1)
        assert record["paired"]["dense"]["win_rate"] == (by_text > 0).mean()
        spend = _spend(schedules)
        assert record["by_step"]["keep"] == pytest.approx(spend[..., 0].mean(0).tolist())
        assert all(record["methods"][name]["matched"] for name in ("static", "random_best", "dac"))
        static = StaticScheduler(Budget(*spend.mean((0, 1)).tolist()), GRID)
        losses = []
        for number in range(9):
            plan = [static.next_action(Observation(number * 8 + step)) for step in range(8)]
            place = texts.blocks[number // 3], 13 + 8 * (number % 3)
            losses += score_alone(model.lm, *place, plan)[1]
        assert record["methods"]["static"]["kl"] == pytest.approx(np.mean(losses), abs=3e-5)
