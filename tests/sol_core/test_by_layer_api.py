"""Actions by layer from Python: their means, their JSON, what they cost, and what refuses them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import sol_core
from sol_core import Action, ActionGrid, Budget
from sol_core.actions import GRIDS, record_of
from sol_core.config import ScheduleConfig
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError
from sol_core.events import StepCost, event_to_dict
from sol_core.fields import from_json
from sol_core.generation.scoring import parse_case, score_case

TEXT = "Once upon a time there was a fox who lived in a wood and ate berries all day long. "
BY_LAYER = Action([0.2, 0.9], [0.4, 0.9], 8)

pytestmark = pytest.mark.usefixtures("one_thread")


def by_layer(observation):
    return BY_LAYER if observation.step % 2 else Action()


def test_the_numbers_are_the_means_of_the_lists():
    action = Action(np.array([0.25, 0.5]), torch.tensor([0.5, 1.0]))
    assert action.as_tuple() == (0.375, 0.75, 16)
    assert action.values() == ((0.25, 0.5), (0.5, 1.0), 16)
    assert Action.of(action.values()) == action
    assert action.words == "37.5 % attention by layer · 75 % MLP by layer · 16 bits"
    assert Action([0.7] * 30).keep_fraction == 0.7, "no rounding of equal numbers"
    assert Action([1.0, 1.0], [1, 1]).is_dense
    assert not BY_LAYER.is_dense


def test_json_of_one_number_is_what_it_was_and_lists_come_back():
    plain = {"keep_fraction": 0.3, "channel_keep_ratio": 1.0, "bit_width": 8}
    assert record_of(Action(0.3, 1.0, 8)) == plain
    record = json.loads(json.dumps(record_of(BY_LAYER)))
    assert record["keep_by_layer"] == [0.2, 0.9]
    assert from_json(Action, record) == Action(**record) == BY_LAYER
    with pytest.raises(ConfigError, match=r"must be 0\.55, the mean of keep_by_layer, got 0\.5"):
        from_json(Action, record | {"keep_fraction": 0.5})
    config = ScheduleConfig("painted", painted=(BY_LAYER, Action()))
    assert from_json(ScheduleConfig, json.loads(json.dumps(record_of(config)))) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Action([0.5, 0.0]), "attention kept must be above 0 and at most 1, got 0"),
        (lambda: Action([]), "attention kept needs one number, or one per layer, got an empty"),
        (lambda: Action([[0.5], [0.5]]), "attention kept must be one number, got 1"),
        (lambda: Action(bit_width=[8, 8]), "bits must be one number, got 2: only an Action has"),
        (lambda: Budget([0.5, 0.6]), "attention kept must be one number, got 2: only an Action"),
        (lambda: ActionGrid(keep_fractions=([0.2, 0.3], 1.0)), "levels of a grid are numbers: onl"),
    ],
)
def test_what_no_layer_can_have_is_refused_in_a_sentence(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_schedule_by_layer_runs_everywhere(model):
    made = sol_core.generate(model, TEXT, by_layer, max_new_tokens=6)
    assert [token.action for token in made.tokens] == [Action(), BY_LAYER] * 3
    assert made.spend.as_tuple() == pytest.approx((0.775, 0.825, 12))
    costs = CostModel.of(model.lm, made.config.grid_in_use)
    for token in made.tokens:
        assert token.cost.mlp_bytes == costs.decode_step(token.action, 50).mlp_bytes
        assert event_to_dict(token)["action"] == record_of(token.action)
    scored = sol_core.score(model, TEXT[16:], by_layer, context=TEXT[:16])
    assert set(scored.actions) == {Action(), BY_LAYER}
    seen = sol_core.inspect(model, TEXT, {"mine": by_layer, "static": "static"}, Budget(0.5, 0.7))
    assert {token.rows[1].action for token in seen.tokens} == {Action(), BY_LAYER}
    view = sol_core.what_if(model, TEXT, 5, by_layer)
    assert view.taken.action == BY_LAYER
    attention, _, bits = view.axes
    assert all(row.action.keep_by_layer == () for row in attention)
    assert all(row.action.channels_by_layer == (0.4, 0.9) for row in (*attention, *bits))
    with pytest.raises(ConfigError, match="or 2, one per layer of the model, got 3"):
        sol_core.generate(model, TEXT, lambda _: Action([0.5] * 3), max_new_tokens=2)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_step_costs_the_mean_of_its_layers(model, grid):
    """Of steps under each layer's numbers for all layers; what the layers share costs the same."""
    costs = CostModel.of(model.lm, GRIDS[grid])
    found = costs.decode_step(BY_LAYER, 100)
    first, last = (costs.decode_step(Action(*one, 8), 100) for one in ((0.2, 0.4), (0.9, 0.9)))
    for part in (item.name for item in dataclasses.fields(StepCost)):
        mean = (getattr(first, part) + getattr(last, part)) / 2
        assert getattr(found, part) == pytest.approx(mean)
    assert costs.decode_step(Action([0.2] * 2, [0.4] * 2, 8), 100) == first


def test_cases_of_score_take_lists(model):
    case = {"input_ids": list(range(3, 30)), "context_len": 20, "page_size": 8}
    one, lists = [0.3, 0.5, 8], [[0.3, 0.3], [0.5, 0.5], 8]
    losses = score_case(model, parse_case(case | {"schedules": [[one] * 4, [lists] * 4]}))
    assert losses[0] == losses[1]
    for wrong in ([0.3, ["a"], 8], [0.3, True, 8], [[0.3, 0.4], 8]):
        with pytest.raises(ConfigError, match="an action is"):
            parse_case(case | {"schedules": [[wrong]]})
