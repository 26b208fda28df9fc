"""A grid that nobody chose follows from budget and policy, the same way wherever it is asked."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from app.cli import options as cli
from app.pages import explore, inspect
from sol_core import Action, Budget, GenerationConfig, InspectionConfig, ScheduleConfig, TrainConfig
from sol_core import generate as library_generate
from sol_core import inspect as library_inspect
from sol_core import score as library_score
from sol_core.actions import GRIDS
from sol_core.errors import ConfigError, PolicyError
from sol_core.evaluation.contenders import load_contenders
from sol_core.files.paths import SHIPPED_POLICY
from sol_core.generation.schedules import with_grid
from sol_core.policy.files.locate import resolved_grid
from sol_core.policy.policy import load_policy
from sol_core.training.config import PRESETS
from tests.support.tiny_policies import COARSE, save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Once upon a time there was a fox who lived in a wood and ate berries all day long. "
LEVELS = replace(COARSE, mlp_pruning="both", mlp_split=(), head="preview")
PER_AXIS, SHARE = Budget(0.5, 0.7, 8), Budget.share(0.9)


def rule(observation, budget=PER_AXIS):
    return Action(0.5, 0.5, 8)


@pytest.fixture
def policy(model, tmp_path):
    return load_policy(save_tiny_policy(model, tmp_path / "coarse", grid=LEVELS), model)


@pytest.mark.parametrize("budget", [PER_AXIS, SHARE], ids=["axes", "share"])
def test_a_configuration_object_does_not_change_the_method(model, policy, budget):
    config = GenerationConfig(max_new_tokens=6)
    for method in (None, policy, rule):
        alone = library_generate(model, TEXT, method, budget, max_new_tokens=6)
        with_config = library_generate(model, TEXT, method, budget, config=config)
        assert [t.action for t in with_config.tokens] == [t.action for t in alone.tokens]
        assert with_config.finish.cost == alone.finish.cost
        assert with_config.text == alone.text
        scored = [library_score(model, TEXT, method, budget, config=c) for c in (None, config)]
        assert scored[0] == scored[1]
    costs = [
        library_inspect(model, TEXT, "static", budget, config=config, max_tokens=20).end.rows
        for config in (None, InspectionConfig(()))
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("budget", [PER_AXIS, SHARE], ids=["axes", "share"])
def test_python_commands_and_pages_take_the_same_grid(model, tmp_path, budget):
    folder = save_tiny_policy(model, tmp_path / "tiny", grid=LEVELS)
    expected = {
        None: GRIDS["default"],
        str(SHIPPED_POLICY): GRIDS["default"],
        str(folder): LEVELS,
    }
    values = explore.budget_values(budget)
    for name, grid in expected.items():
        schedule = ScheduleConfig("policy" if name else "static", budget, policy=name)
        asked = argparse.Namespace(grid=None, quant_site=None)
        form = explore.DEFAULT_FORM | values | {"schedule": schedule.name}
        shown = {"schedules": [schedule.name, "", ""]}
        grids = [
            with_grid(GenerationConfig(schedule), Path).grid,
            with_grid(InspectionConfig((schedule,)), Path).grid,
            cli.grid_from(asked, [schedule], Path),
            explore.config_from_form(form, Path).grid,
            inspect.config_from_form(inspect.DEFAULT_FORM | values | shown, Path).grid,
        ]
        if name != str(SHIPPED_POLICY):  # it is another model's
            method = Path(name) if name else rule
            grids.append(load_contenders(model, {"x": method}, [budget], None)[0].grid)
        assert grids == [grid] * len(grids)


def test_a_chosen_grid_holds_or_is_refused(model, policy):
    assert resolved_grid(GRIDS["paper"], [policy]) == GRIDS["paper"]
    chosen = GenerationConfig(grid=GRIDS["paper"], max_new_tokens=3)
    alone = library_generate(model, TEXT, None, PER_AXIS, max_new_tokens=3)
    assert library_generate(model, TEXT, None, PER_AXIS, config=chosen).finish.cost != (
        alone.finish.cost
    )
    with pytest.raises(PolicyError, match="chooses from another grid"):
        library_generate(model, TEXT, policy, PER_AXIS, config=chosen)
    with pytest.raises(ConfigError, match="grid is unset"):
        GenerationConfig().grid_in_use.levels()
    assert GenerationConfig().schedule.kind == "dense", "as without a configuration"


def test_a_schedule_is_named_once(model):
    random = GenerationConfig(ScheduleConfig("random", PER_AXIS))
    with pytest.raises(ConfigError, match="has the schedule random: leave it out"):
        library_generate(model, TEXT, None, PER_AXIS, config=random)
    static = InspectionConfig((ScheduleConfig("static", PER_AXIS),))
    with pytest.raises(ConfigError, match="leave those of the configuration out"):
        library_inspect(model, TEXT, "emc", PER_AXIS, config=static)


def test_training_without_a_preset_takes_the_presets_grid():
    assert TrainConfig().grid == PRESETS["standard"].grid == GRIDS["default"]
    assert PRESETS["paper"].grid == GRIDS["paper"]


def test_a_policy_at_another_site_needs_no_option(model, tmp_path):
    grid = replace(LEVELS, quant_site="mlp_input")
    folder = str(save_tiny_policy(model, tmp_path / "site", grid=grid))
    schedule = ScheduleConfig("policy", PER_AXIS, policy=folder)
    assert cli.grid_from(argparse.Namespace(grid=None, quant_site=None), [schedule], Path) == grid
