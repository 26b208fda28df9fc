"""The table of axes: the dataclasses follow it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from app.web.theme_colours import LIGHT
from sol_core.actions import AXES, AXIS_FIELDS, DENSE, GRIDS, Action, ActionGrid, Budget
from sol_core.errors import ConfigError


def test_actions_budgets_and_grids_have_every_axis_in_order() -> None:
    for kind, more in ((Action, ()), (Budget, ("bytes_share",))):
        assert tuple(item.name for item in fields(kind)) == (*AXIS_FIELDS, *more)
    assert {axis.levels_field for axis in AXES} <= {item.name for item in fields(ActionGrid)}
    assert DENSE.as_tuple() == Budget().as_tuple() == tuple(axis.dense for axis in AXES)
    assert DENSE.shares() == (1,) * len(AXES)
    for axis in AXES:
        assert getattr(LIGHT, axis.key).startswith("#")
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
def test_a_value_that_is_not_allowed_is_named(values: dict[str, float], message: str) -> None:
    for kind in (Action, Budget):
        with pytest.raises(ConfigError, match=message):
            kind(**values)


def test_only_actions_are_whole() -> None:
    assert Budget(bit_width=7.5).words == "100 % attention · 100 % MLP · 7.5 bits"
    with pytest.raises(ConfigError, match=r"bits must be a whole number, got 7\.5"):
        Action.of((1, 1, 7.5))
    assert repr(Action.of((0.5, 1.0, 8.0)).bit_width) == "8"
    for grid in GRIDS.values():
        last = [len(levels) - 1 for levels in grid.levels()]
        assert grid.action(last) == DENSE
        assert grid.action([0] * len(last)).as_tuple() == tuple(one[0] for one in grid.levels())
