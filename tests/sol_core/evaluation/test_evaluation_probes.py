"""The pollution probe on a tiny model."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from sol_core.actions import DENSE, Action, ActionGrid, Budget
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.probes import probe_actions
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkFinished
from tests.sol_core.evaluation_stand_ins import (
    contender,
    evaluate_contenders,
    random_texts,
    score_alone,
)
from tests.support.tiny_language_model import make_language_model

TEXTS = random_texts(5, 40 + 8 + 1)
CONFIG = EvaluationConfig(
    budgets=(Budget(0.3, 0.6, 7), Budget(0.5, 0.8, 8)),
    baselines=("static",),
    texts=5,
    context=40,
    steps=8,
    pollution=True,
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
    short = probe_actions(ActionGrid((0.5, 1.0), (1.0,), (8, 16)))
    assert [one[:2] for one in short] == [("keep", 0.5), ("bits", 8.0)]


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


def test_a_probe_leaves_the_main_numbers_alone(
    model: LanguageModel, result: dict[str, Any]
) -> None:
    config = dataclasses.replace(CONFIG, pollution=False)
    *_, last = evaluate_contenders(model, [contender(episode_steps=8)[0]], config, TEXTS)
    assert isinstance(last, WorkFinished)
    assert last.result["budgets"] == result["budgets"]
