"""The pollution probe, the effect of refreshing the cache, and timed steps, on a tiny model."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sol_core.actions import DENSE, Action, ActionGrid, Budget
from sol_core.errors import ConfigError
from sol_core.evaluation import EvaluationConfig
from sol_core.evaluation.pollution import probe_actions
from sol_core.evaluation.runner import evaluate_contenders
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkFinished, WorkProgress
from tests.sol_core.evaluation_stand_ins import GRID, contender, random_texts, score_alone
from tests.support.tiny_language_model import make_language_model

TEXTS = random_texts(5, 40 + 8 + 1)
CONFIG = EvaluationConfig(
    budgets=(Budget(0.3, 0.6, 7), Budget(0.5, 0.8, 8)),
    baselines=("static",),
    texts=5,
    context=40,
    steps=8,
    pollution=True,
    refresh=True,
    timing=True,
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture(scope="module")
def result(model: LanguageModel) -> dict[str, Any]:
    *_, last = evaluate_contenders(model, [contender(episode_steps=8)[0]], CONFIG, TEXTS)
    assert isinstance(last, WorkFinished)
    return last.result


def test_impulses_are_one_axis_at_a_time() -> None:
    actions = probe_actions(ActionGrid())
    levels = {axis: [level for name, level, _ in actions if name == axis] for axis, *_ in actions}
    assert levels == {
        "keep": [0.1, 0.2, 0.3, 0.5],
        "channels": [0.4, 0.45, 0.5, 0.6],
        "bits": [5.0, 6.0, 7.0, 9.0],
    }
    assert actions[1][2] == Action(keep_fraction=0.2)
    assert actions[-1][2] == Action(bit_width=9)
    short = ActionGrid((0.5, 1.0), (1.0,), (8, 16))
    assert [(name, level) for name, level, _ in probe_actions(short)] == [
        ("keep", 0.5),
        ("bits", 8.0),
    ]


def test_pollution_is_the_tail_s_change_after_an_impulse(
    model: LanguageModel, result: dict[str, Any]
) -> None:
    report = result["pollution"]
    assert (report["region"], report["tail"], report["texts"]) == (8, 8, 5)
    for axis, position, action in (
        ("keep", 0, Action(keep_fraction=0.1)),
        ("channels", 1, Action(channel_keep_ratio=0.45)),
        ("bits", 0, Action(bit_width=5)),
    ):
        changes, tail_kl, region_kl = [], [], []
        for block in TEXTS.blocks:
            plan = [action] * 8 + [DENSE] * 8
            nll, kl = score_alone(model.lm, block, 32, plan)
            dense, _ = score_alone(model.lm, block, 32, [DENSE] * 16)
            changes.append(np.subtract(nll, dense)[8:])
            tail_kl.append(np.mean(kl[8:]))
            region_kl.append(np.mean(kl[:8]))
        found = report["axes"][axis][position]
        assert found["change"] == pytest.approx(math.expm1(np.mean(changes)), abs=3e-5)
        assert found["low"] <= found["change"] <= found["high"]
        assert found["kl"] == pytest.approx(np.mean(tail_kl), abs=3e-5)
        assert found["region_kl"] == pytest.approx(np.mean(region_kl), abs=3e-5)
        assert found["by_step"] == pytest.approx(np.mean(changes, 0).tolist(), abs=5e-5)


def test_refresh_forgets_what_was_compressed(model: LanguageModel, result: dict[str, Any]) -> None:
    report = result["refresh"]
    assert (report["episodes"], report["episode_steps"], report["texts"]) == (3, 8, 5)
    assert report["replayed_per_token"] == pytest.approx(2 / 3)
    policy = contender()[1]
    for budget, record in zip(CONFIG.budgets, report["budgets"], strict=True):
        assert list(record["requested"].values()) == list(budget.as_tuple())
        plain, refreshed = [], []
        for block in TEXTS.blocks:
            actions = [policy.action(budget, token) for token in block[24:48]]
            plain.append(score_alone(model.lm, block, 24, actions))
            # A refreshed episode starts from a cache that never saw a compressed step.
            parts = [score_alone(model.lm, block, 24 + s, actions[s : s + 8]) for s in (0, 8, 16)]
            refreshed.append([[v for part in parts for v in part[which]] for which in (0, 1)])
        for key, scores in (("without", np.asarray(plain)), ("with", np.asarray(refreshed))):
            assert record[key]["nll"] == pytest.approx(scores[:, 0].mean(), abs=3e-5)
            assert record[key]["kl"] == pytest.approx(scores[:, 1].mean(), abs=3e-5)
            by_episode = scores[:, 1].reshape(5, 3, 8).mean((0, 2))
            assert record[key]["by_episode"] == pytest.approx(by_episode.tolist(), abs=2e-4)
        assert record["gain"] == pytest.approx(record["without"]["nll"] - record["with"]["nll"])
        assert record["kl_gain"] == pytest.approx(record["without"]["kl"] - record["with"]["kl"])
        assert record["low"] <= record["gain"] <= record["high"]
        assert record["kl_low"] <= record["kl_gain"] <= record["kl_high"]
        assert record["without"]["by_episode"][0] == pytest.approx(
            record["with"]["by_episode"][0], abs=1e-6
        )


def test_refresh_is_not_free(result: dict[str, Any]) -> None:
    for record in result["refresh"]["budgets"]:
        without, with_it = (record[key]["flops_per_token"] for key in ("without", "with"))
        dense = record["dense_flops_per_token"]
        assert without < dense
        # Two of three tokens are replayed, without the language-model head.
        assert without + 0.3 * dense < with_it < without + 0.67 * dense


def test_refresh_needs_two_episodes(model: LanguageModel) -> None:
    one = contender(episode_steps=30)[0]
    config = EvaluationConfig(budgets=CONFIG.budgets, texts=5, context=40, steps=8, refresh=True)
    with pytest.raises(ConfigError, match=r"2 episodes of 30 steps .* above 60, got 48"):
        evaluate_contenders(model, [one], config, TEXTS)


def test_a_probe_leaves_the_main_numbers_alone(
    model: LanguageModel, result: dict[str, Any]
) -> None:
    config = EvaluationConfig(
        budgets=CONFIG.budgets, baselines=("static",), texts=5, context=40, steps=8
    )
    one = contender(episode_steps=8)[0]
    *_, last = evaluate_contenders(model, [one], config, TEXTS)
    assert isinstance(last, WorkFinished)
    probed = copy.deepcopy(result["budgets"])
    for budget in probed:
        for method in budget["methods"].values():
            method.pop("ms_per_token", None)  # timing's own
    assert last.result["budgets"] == probed
    assert torch.is_tensor(model.lm.weights.embedding)
    assert GRID.page_size == 4


def test_steps_are_timed_one_row_at_a_time(result: dict[str, Any]) -> None:
    assert result["timing"]["texts"] == 5
    assert result["timing"]["steps"] == 8
    assert result["timing"]["device"]
    dense = [one["methods"]["dense"]["ms_per_token"] for one in result["budgets"]]
    assert dense[0] == dense[1]  # measured once
    for one in result["budgets"]:
        times = {name: method.get("ms_per_token") for name, method in one["methods"].items()}
        assert set(times) == {"policy", "static", "dense"}
        for time in times.values():
            assert time is not None
            assert 0 < time["low"] <= time["mean"] <= time["high"] < 10_000
        assert times["policy"] != times["static"]
        assert (
            one["methods"]["policy"]["flops_per_token"] < one["methods"]["dense"]["flops_per_token"]
        )


def test_timing_changes_no_other_number_and_no_key(
    model: LanguageModel, result: dict[str, Any], tmp_path: Path
) -> None:
    untimed = replace(CONFIG, timing=False)
    mine = [contender(episode_steps=8)[0]]
    *_, last = evaluate_contenders(model, mine, CONFIG, TEXTS, partial=tmp_path)
    assert isinstance(last, WorkFinished)
    *others, again = evaluate_contenders(model, mine, untimed, TEXTS, partial=tmp_path)
    assert isinstance(again, WorkFinished)
    assert not [one for one in others if isinstance(one, WorkProgress)]  # all batches were found
    assert again.result["timing"] is None
    for timed, plain in zip(last.result["budgets"], again.result["budgets"], strict=True):
        for name, method in plain["methods"].items():
            kept = {key: value for key, value in timed["methods"][name].items() if key in method}
            assert kept == method


def test_intervals_of_losses_hold_the_losses(result: dict[str, Any]) -> None:
    for one in result["budgets"]:
        dense = one["methods"]["dense"]
        assert (dense["nll_low"], dense["nll_high"]) == (dense["nll"], dense["nll"])
        assert (dense["kl_low"], dense["kl_high"]) == (0.0, 0.0)
        for name in ("policy", "static"):
            method = one["methods"][name]
            for measure in ("nll", "kl"):
                low, high = method[f"{measure}_low"], method[f"{measure}_high"]
                assert low < method[measure] < high
