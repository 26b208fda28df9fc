"""One reader for configurations, forms and documents: what it takes, and what it says otherwise."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.web.theme import LIGHT
from sol_core.accuracy.config import TasksConfig
from sol_core.actions import AXES, AXIS_FIELDS, DENSE, GRIDS, Action, ActionGrid, Budget
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.fields import MAX_WHOLE, Range, Rules, Seed, check_fields, from_json, is_servable
from sol_core.training.config import PRESETS, TrainConfig, for_minutes


@dataclass(frozen=True, slots=True)
class Inner:
    level: Annotated[float, Range(0.5, 2)]
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Outer:
    count: Annotated[int, Range(1, 1000)] = 1
    seed: Seed = 0
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner(1.0)
    many: tuple[Inner, ...] = ()
    named: dict[str, int] | None = None
    free: Any = None

    def __post_init__(self):
        check_fields(self)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"count": 0}, "count must be a whole number from 1 to 1,000, got 0"),
        ({"count": True}, "count must be a whole number from 1 to 1,000, got True"),
        ({"count": None}, "count must be a whole number from 1 to 1,000, got nothing"),
        ({"seed": 2**63}, "seed must be a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
        ({"inner": {"level": 3}}, "inner.level must be a number from 0.5 to 2, got 3"),
        ({"inner": {}}, "inner lacks the field 'level'"),
        ({"inner": {"level": 1, "more": 1}}, "inner has an unknown field 'more'; allowed: level"),
        ({"inner": {"level": 1, "losses": [math.nan]}}, "inner.losses[0] must be a finite number"),
        ({"many": [{"level": 1}, {"level": math.inf}]}, "many[1].level must be a number from 0.5"),
        ({"named": {"x y": 1.5}}, "named.'x y' must be a whole number of at most 64 bits, got 1.5"),
        ({"free": [{"a": 10**30}]}, "free must be plain JSON with finite numbers"),
        ({"more": 1}, "Outer has an unknown field 'more'; allowed: count, free, inner"),
        ([], "Outer must be an object, got a list"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_what_is_allowed(value, said):
    with pytest.raises(ConfigError) as caught:
        from_json(Outer, value)
    assert said in str(caught.value)


def test_an_object_is_held_to_its_annotations_when_it_is_made():
    for wrong in ({"count": 0}, {"many": [1.0]}, {"inner": {"levels": 1.0}}, {"seed": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Outer(**wrong)
    meant = Outer(many=[Inner(1.0)], inner={"level": 1.0})
    assert (meant.many, meant.inner) == ((Inner(1.0),), Inner(1.0))


def test_rules_say_what_documents_may_do_otherwise():
    rules = Rules(
        derived={Inner: {"total": float}}, partial=frozenset(), nullable=frozenset({"losses"})
    )
    value = {"level": 1, "losses": [0.5, None], "total": 0.5}
    assert from_json(Inner, value, "part", rules) == Inner(1, (0.5, None))
    with pytest.raises(ConfigError, match=r"part\.total must be"):
        from_json(Inner, value | {"total": "x"}, "part", rules)
    with pytest.raises(ConfigError, match="part lacks the field 'losses'"):
        from_json(Inner, {"level": 1, "total": 1}, "part", rules)
    with pytest.raises(ConfigError, match=r"losses\[1\] must be a finite number"):
        from_json(Inner, value, "part", Rules(derived=rules.derived))


NUMBERS = st.one_of(st.integers(), st.floats(), st.just(10**400), st.booleans())


def _numbers(kind, prefix=()):
    record = kind().to_dict() if not prefix else kind
    found = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, (*prefix, name))
        elif isinstance(value, (int, float)):
            found.append((*prefix, name))
    return found


CONFIGS = (GenerationConfig, TrainConfig, EvaluationConfig, TasksConfig)
PLACES = [(kind, place) for kind in CONFIGS for place in _numbers(kind)]


@given(st.sampled_from(PLACES), NUMBERS)
def test_a_number_is_refused_or_served(at, number):
    kind, place = at
    record = json.loads(json.dumps(kind().to_dict()))
    inner = record
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = number
    try:
        config = from_json(kind, record)
    except ConfigError:
        return
    assert is_servable(config.to_dict())
    assert from_json(kind, json.loads(json.dumps(config.to_dict()))) == config


def test_a_year_is_the_longest_training():
    for name, config in PRESETS.items():
        assert for_minutes(config, name, 525_600).time_limit_minutes == 525_600
        with pytest.raises(ConfigError, match="minutes must be between"):
            for_minutes(config, name, 525_601)


def test_what_can_be_served():
    assert is_servable([{"a": [1, 1.5, None, True, "x"]}, MAX_WHOLE])
    for value in (MAX_WHOLE + 1, [math.nan], [-math.inf], {1: 2}, {1, 2}):
        assert not is_servable(value)


def test_actions_budgets_and_grids_have_every_axis_in_order():
    layers = tuple(axis.by_layer for axis in AXES if axis.by_layer)
    for kind, more in ((Action, layers), (Budget, ("bytes_share",))):
        assert tuple(item.name for item in fields(kind)) == (*AXIS_FIELDS, *more)
    assert {axis.levels_field for axis in AXES} <= {item.name for item in fields(ActionGrid)}
    assert DENSE.as_tuple() == Budget().as_tuple() == tuple(axis.dense for axis in AXES)
    assert DENSE.fractions() == (1,) * len(AXES)
    for axis in AXES:
        assert LIGHT[axis.key].startswith("#")
        for value in axis.measured:
            axis.check(value, whole=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep_fraction": 0}, "attention kept must be above 0 and at most 1, got 0"),
        ({"channel_keep_ratio": 1.5}, "MLP kept must be above 0 and at most 1, got 1.5"),
        ({"keep_fraction": float("nan")}, "attention kept must be above 0 and at most 1, got nan"),
        ({"keep_fraction": "much"}, "attention kept must be above 0 and at most 1, got 'much'"),
        ({"bit_width": 17}, "bits must be between 2 and 16, got 17"),
        ({"bit_width": True}, "bits must be between 2 and 16, got True"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values, message):
    for kind in (Action, Budget):
        with pytest.raises(ConfigError, match=message):
            kind(**values)


def test_only_actions_are_whole():
    assert Budget(bit_width=7.5).words == "100 % attention · 100 % MLP · 7.5 bits"
    with pytest.raises(ConfigError, match=r"bits must be a whole number, got 7\.5"):
        Action.of((1, 1, 7.5))
    assert repr(Action.of((0.5, 1.0, 8.0)).bit_width) == "8"
    for grid in GRIDS.values():
        last = [len(levels) - 1 for levels in grid.levels()]
        assert grid.action(last) == DENSE
        assert grid.action([0] * len(last)).as_tuple() == tuple(one[0] for one in grid.levels())


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_grid_that_was_used_is_pickled_without_functions(grid):
    assert grid.scorer.name == grid.page_scorer
    assert grid.pruner.name == grid.mlp_pruning
    assert pickle.loads(pickle.dumps(grid)) == grid


@pytest.mark.parametrize("make", [np.float32, np.float64, torch.tensor, np.array])
def test_scalars_of_numpy_and_torch_are_numbers(make):
    given = Budget(make(0.5), make(0.75), make(8.0))
    assert given == Budget(0.5, 0.75, 8.0)
    assert Budget.share(make(0.5)) == Budget.share(0.5)
    assert Action(make(0.5), make(0.75), 8) == Action(0.5, 0.75, 8)
    numbers = (*given.as_tuple(), Budget.share(make(0.5)).bytes_share)
    assert {type(number) for number in numbers} == {float}, "JSON takes them"
    with pytest.raises(ConfigError, match="attention kept must be above 0"):
        Budget(make(1.5))
    config = EvaluationConfig(texts=np.int64(8), seed=torch.tensor(3))
    assert json.loads(json.dumps(config.to_dict()))["texts"] == 8
    assert GenerationConfig(max_new_tokens=np.int32(5)).max_new_tokens == 5
    with pytest.raises(ConfigError, match="whole number"):
        GenerationConfig(max_new_tokens=make(5.5))
