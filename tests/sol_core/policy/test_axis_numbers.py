"""A policy has its grid's number of axes, whichever: here the first two of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.budgets.building import build_scheduler
from sol_core.config import ScheduleConfig
from sol_core.decoding.schedules import Horizon, Observation
from sol_core.errors import ConfigError
from sol_core.models.loading import LanguageModel
from sol_core.policy import (
    Policy,
    PolicyConfig,
    PolicyInfo,
    PolicyScheduler,
    load_policy,
    read_policy_info,
    save_policy,
)
from sol_core.policy.info import InputLayout
from sol_core.policy.network import DamageNetwork, build_network, level_values
from sol_core.policy.prices import PriceTable
from sol_core.training.measure import held_out_budgets
from sol_core.training.rollouts import draw_budgets
from sol_core.training.warm_start.exploration import ExplorationScheduler, draw_levels
from tests.sol_core.policy.test_shipped_choices import seen
from tests.support.tiny_language_model import make_language_model

BUDGET = Budget(0.5, 0.7)
GRID = ActionGrid((0.25, 0.5, 0.75, 1.0), (0.5, 0.75, 1.0), (8, 16))


@pytest.fixture(autouse=True)
def _two_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionGrid, "axes", AXES[:2])


def _policy(network_name: str) -> tuple[Policy, LanguageModel]:
    model = make_language_model()
    torch.manual_seed(1)
    config = PolicyConfig(width=16, num_heads=2, network=network_name)
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers, num_axes=2)
    network = build_network(layout, GRID, config)
    prices = []
    if isinstance(network, DamageNetwork):
        damages = [base.detach() + torch.randn(200, 1) for base in network.base]
        pairs = zip(damages, level_values(GRID), strict=True)
        prices = [PriceTable.measure(damage.exp(), levels) for damage, levels in pairs]
    info = PolicyInfo("two", model.name, model.fingerprint, GRID, config, layout)
    return Policy(info, network, prices, model.lm.weights.embedding), model


@pytest.mark.parametrize("network", ["factored", "joint"])
def test_a_policy_of_two_axes_decides_and_is_stored(network: str, tmp_path: Path) -> None:
    policy, model = _policy(network)
    save_policy(policy, tmp_path / "two")
    assert read_policy_info(tmp_path / "two").layout.num_axes == 2
    played = []
    for one in (policy, load_policy(tmp_path / "two", model)):
        scheduler = PolicyScheduler(one, [BUDGET] * 2)
        steps = [scheduler.next_actions(seen(step, 2, one.info.layout)) for step in range(40)]
        played.append(steps)
        assert [len(row) for row in scheduler.distribution()] == [2, 2]
        assert scheduler.mean_spends().shape == (2, 2)
    assert {action.bit_width for row in played[0] for action in row} == {16}
    if network == "factored":
        means = torch.tensor([[a.shares(AXES[:2]) for a in row] for row in played[0]]).mean((0, 1))
        torch.testing.assert_close(means, torch.tensor([0.5, 0.7]), atol=0.1, rtol=0)


def test_a_layout_of_other_axes_than_the_grids_is_refused() -> None:
    policy, _ = _policy("factored")
    three = InputLayout(policy.info.layout.hidden_size, policy.info.layout.num_layers)
    with pytest.raises(ConfigError, match="num_axes must be 2, the number of the grid's axes"):
        PolicyInfo("x", "m", "f", GRID, policy.info.config, three)


def test_training_draws_the_grids_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = draw_levels(GRID, (6, 5), generator)
    assert levels.shape == (6, 5, 2)
    layout = InputLayout(8, 2, num_axes=2)
    scheduler = ExplorationScheduler(levels, GRID, layout)
    for step in range(5):
        actions = scheduler.next_actions(seen(step, 6, layout))
        assert [one.as_tuple(AXES[:2]) for one in actions] == [
            GRID.action(places).as_tuple(AXES[:2]) for places in levels[:, step].tolist()
        ]
    assert scheduler.rows[0].shape == (6, layout.width)
    budgets = [*draw_budgets(3, GRID, generator), *held_out_budgets(GRID)]
    assert {budget.bit_width for budget in budgets} == {16}


@pytest.mark.parametrize("kind", ["static", "random", "emc"])
def test_schedules_leave_the_other_axes_dense(kind: str) -> None:
    config = ScheduleConfig(kind, BUDGET)  # type: ignore[arg-type]  # one of them
    scheduler = build_scheduler(config, GRID, horizon=Horizon(20, 20))
    actions = [scheduler.next_action(Observation(step, entropy=1.0)) for step in range(20)]
    assert {action.bit_width for action in actions} == {16}
    assert sum(action.keep_fraction for action in actions) == pytest.approx(10, abs=0.26)
