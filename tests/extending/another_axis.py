"""An axis beside the paper's, from labels to the page; only its own diff says that there is one.

Run by ``test_extending.py`` in a copy of the tree with the diff of ``docs/extending.md`` applied.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from app.cli import options
from app.cli.reports.evaluation import as_table
from app.cli.setting_option import apply_settings
from app.pages.explore.form import DEFAULT_FORM, config_from_form
from app.pages.train.form import config_from_form as config_from_train_form
from app.pages.train.form import form_from_config
from app.results.figures import figures_of
from app.results.files import csv_text
from app.web.assets import page_axes
from app.web.theme import colour_css
from sol_core import generate
from sol_core.actions import DENSE, GRIDS, OTHER_AXES, Action, ActionGrid, Budget
from sol_core.comparing.contenders import load_contenders
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError
from sol_core.evaluation import EvaluationConfig
from sol_core.evaluation.config import parse_budgets
from sol_core.evaluation.runner import evaluate_contenders
from sol_core.fields import from_json
from sol_core.inspection import InspectionConfig, InspectionEnd
from sol_core.inspection.engine import inspect_text
from sol_core.models.loading import LanguageModel
from sol_core.policy import load_policy
from sol_core.progress import WorkFinished
from sol_core.training import GrpoConfig, TrainConfig, WarmStartConfig, train
from tests.sol_core.evaluation_stand_ins import random_texts
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_models import FAMILIES
from tests.support.tiny_training import tiny_train_config

(AXIS,) = OTHER_AXES
LEVELS = (0.5, 0.75, 1.0)
BUDGET = Budget(0.6, 0.7, 9, 0.75)  # type: ignore[call-arg]  # its own field


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Of four layers."""
    return make_language_model(next(one for one in FAMILIES if "num_hidden_layers" in one.options))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = tiny_train_config(
        tmp_path_factory.mktemp("corpus"),
        warm_start=WarmStartConfig(texts=8, epochs=4),
        grpo=GrpoConfig(updates=2, windows=2, rollouts=2),
    )
    return apply_settings(config, [f"grid.{AXIS.levels_field}={json.dumps(LEVELS)}"])


@pytest.fixture(scope="module")
def trained(
    model: LanguageModel, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    *_, last = train(model, config, folder / "run", data_dir=folder / "data")
    assert isinstance(last, WorkFinished)
    return last.result


def test_a_policy_of_it_is_trained_saved_and_loaded(
    model: LanguageModel, config: TrainConfig, trained: dict[str, Any]
) -> None:
    record = json.loads((Path(trained["folder"]) / "config.json").read_text("utf-8"))
    assert record["layout"]["num_axes"] == 4
    assert record["grid"][AXIS.levels_field] == list(LEVELS)
    assert f"gap_{AXIS.short}" in trained["summary"]["held_out"]
    policy = load_policy(Path(trained["folder"]), model, grid=config.grid)
    assert [len(levels) for levels in policy.levels] == [10, 13, 12, 3]
    assert len(policy.prices) == 4


def test_texts_are_generated_within_its_budget(
    model: LanguageModel, trained: dict[str, Any]
) -> None:
    policy = load_policy(Path(trained["folder"]), model)
    made = generate(model, "the sea was calm", policy, BUDGET, max_new_tokens=96)
    taken = {getattr(token.action, AXIS.field) for token in made.tokens}
    assert len(taken) > 1
    assert taken <= set(LEVELS)
    assert abs(getattr(made.spend, AXIS.field) - getattr(BUDGET, AXIS.field)) < 0.08


def test_an_evaluation_and_an_inspection_count_it(
    model: LanguageModel, trained: dict[str, Any]
) -> None:
    contenders = load_contenders(model, {"mine": Path(trained["folder"])})
    config = EvaluationConfig(
        budgets=parse_budgets("0.6,0.7,9,0.6;0.6,0.7,9"), texts=2, context=70, steps=64,
        pollution=True, refresh=True, baselines=("static", "random:2", "emc"),
    )  # fmt: skip
    *_, last = evaluate_contenders(model, contenders, config, random_texts(2, 70 + 64 + 1))
    assert isinstance(last, WorkFinished)
    less, more = last.result["budgets"]
    assert abs(less["adherence"]["gap"][AXIS.short]) < 0.1
    assert (less["requested"][AXIS.short], more["requested"][AXIS.short]) == (0.6, 1.0)
    assert less["methods"]["static"]["matched"]
    for method in ("policy", "static"):
        few, all_of_it = (one["methods"][method] for one in (less, more))
        assert few["bytes_per_token"] < all_of_it["bytes_per_token"]
    assert last.result["pollution"]["axes"][AXIS.short]
    assert f"{AXIS.short} 0.6" in as_table(last.result)
    assert f"spend_{AXIS.short}" in csv_text(last.result).partition("\n")[0]
    figures = figures_of(json.loads(json.dumps(last.result)))
    assert figures["adherence"][AXIS.short]
    schedules = (ScheduleConfig("static", BUDGET),)
    inspection = InspectionConfig(schedules=schedules, grid=contenders[0].grid)
    *_, end = inspect_text(model, "the light of the lamp went over the water", inspection)
    assert isinstance(end, InspectionEnd)
    assert end.report is not None
    assert getattr(end.report.rows[0].kinds[0], AXIS.short) == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("rows", [1, 5])
def test_it_changes_a_step_and_leaves_a_dense_one_as_it_was(
    model: LanguageModel, rows: int
) -> None:
    lm, token = model.lm, torch.full((rows,), 5)
    prefix = lm.new_cache(1, 24)
    lm.prefill(torch.arange(3, 23)[None], prefix)

    def logits(*actions: Action) -> torch.Tensor:
        return lm.decode_step(token, prefix.branch(rows, 1), list(actions)).logits

    low = Action.of([LEVELS[0]], [AXIS])
    dense = logits(*[DENSE] * rows)
    mixed = logits(low, *[DENSE] * (rows - 1))
    assert not torch.allclose(mixed[0], dense[0], atol=1e-3)
    torch.testing.assert_close(mixed[1:], dense[1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(*[DENSE] * rows), dense)
    costs = CostModel.of(lm, ActionGrid())
    whole, part = (costs.decode_step(action, 20) for action in (DENSE, low))
    assert part.mlp_bytes == 0.5 * whole.mlp_bytes
    assert part.mlp_flops == 0.5 * whole.mlp_flops
    assert part.attention_bytes == whole.attention_bytes


def test_options_forms_and_the_page_have_it(config: TrainConfig) -> None:
    parser = argparse.ArgumentParser()
    options.add_budget(parser, Budget())
    args = parser.parse_args([f"--{AXIS.short}", "0.75"])
    assert getattr(options.asked_budget(args), AXIS.field) == 0.75
    shown = page_axes()[-1]
    assert (shown["short"], shown["min"], shown["max"]) == (AXIS.short, 1, 100)
    assert f"--{AXIS.key}" in colour_css()
    assert DEFAULT_FORM[AXIS.short] == 100
    form = {name: DEFAULT_FORM[name] for name in DEFAULT_FORM} | {AXIS.short: 75}
    with pytest.raises(ConfigError, match=AXIS.label):  # the default grid does not have it
        config_from_form(form | {"schedule": "static"}, Path)
    values = form_from_config(config)
    assert values[f"grid.{AXIS.levels_field}"] == "0.5, 0.75, 1"
    assert config_from_train_form(values, config.corpus) == config


def test_what_does_not_use_it_is_written_as_before() -> None:
    for grid in GRIDS.values():
        assert len(grid.axes) == 3
        assert AXIS.levels_field not in grid.to_dict()
    written = GenerationConfig(ScheduleConfig("static", Budget(0.5))).to_dict()
    assert AXIS.field not in json.dumps(written)
    assert from_json(GenerationConfig, written).schedule.budget == Budget(0.5)
    used = dataclasses.replace(ActionGrid(), **{AXIS.levels_field: LEVELS})  # type: ignore[arg-type]  # its own field
    assert from_json(ActionGrid, used.to_dict()) == used
