"""The table of axes: the dataclasses follow it, and stored actions may lack what came later."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest
import torch

from app.web.theme_colours import LIGHT
from sol_core.actions import AXES, AXIS_FIELDS, DENSE, GRIDS, Action, ActionGrid, Axis, Budget
from sol_core.errors import ConfigError
from sol_core.fields import Rules, from_json
from sol_core.policy.correction import AimCorrection


def test_actions_budgets_and_grids_have_every_axis_in_order() -> None:
    for kind, more in ((Action, ()), (Budget, ("bytes_share",))):
        assert tuple(item.name for item in fields(kind)) == (*AXIS_FIELDS, *more)
    assert {axis.levels_field for axis in AXES} <= {item.name for item in fields(ActionGrid)}
    assert DENSE.as_tuple() == Budget().as_tuple() == tuple(axis.dense for axis in AXES)
    assert DENSE.shares() == (1,) * len(AXES)


@pytest.mark.parametrize("axis", AXES, ids=AXIS_FIELDS)
def test_an_axis_has_a_colour_and_starts_within_its_range(axis: Axis) -> None:
    assert getattr(LIGHT, axis.key).startswith("#")
    for value in axis.measured:
        axis.check(value, whole=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep_fraction": 0}, "keep_fraction must be above 0 and at most 1, got 0"),
        ({"channel_keep_ratio": 1.5}, "channel_keep_ratio must be above 0 and at most 1, got 1.5"),
        ({"keep_fraction": float("nan")}, "keep_fraction must be above 0 and at most 1, got nan"),
        ({"keep_fraction": "much"}, "keep_fraction must be above 0 and at most 1, got 'much'"),
        ({"bit_width": 1}, "bit_width must be between 2 and 16, got 1"),
        ({"bit_width": True}, "bit_width must be between 2 and 16, got True"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values: dict[str, float], message: str) -> None:
    for kind in (Action, Budget):
        with pytest.raises(ConfigError, match=message):
            kind(**values)


def test_only_actions_are_whole() -> None:
    assert Budget(bit_width=7.5).words == "attention 100 %, channels 100 %, 7.5 bits"
    with pytest.raises(ConfigError, match=r"bit_width must be a whole number, got 7\.5"):
        Action.of((1, 1, 7.5))
    assert repr(Action.of((0.5, 1.0, 8.0)).bit_width) == "8"


def test_what_a_stored_action_lacks_is_dense() -> None:
    assert Action.from_record([0.5]) == Action.from_record({"keep_fraction": 0.5}) == Action(0.5)
    assert Action.from_record([0.5, 0.6, 8.0]) == Action(0.5, 0.6, 8)
    assert Action.from_record(asdict(DENSE)) == DENSE
    nothing_may_lack = Rules(partial=frozenset())
    assert from_json(Action, {"bit_width": 8}, rules=nothing_may_lack) == Action(bit_width=8)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        Action.from_record([1, 1, 16, 1])


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_grids_actions_are_found_by_their_places(grid: ActionGrid) -> None:
    last = [len(levels) - 1 for levels in grid.levels()]
    assert grid.action(last) == DENSE
    assert grid.action([0] * len(last)).as_tuple() == tuple(one[0] for one in grid.levels())


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_gaps_are_corrected_whatever_the_number_of_axes(axes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    levels = [torch.linspace(0.2, 1, 9)] * axes
    targets = 0.2 + 0.8 * torch.rand(900, axes, generator=generator)
    contexts = torch.full((900,), 64.0)
    room = 1 - (2 * (targets - 0.2) / 0.8 - 1).square()
    spends = targets + 0.05 * room * targets.flip(1)
    fitted = AimCorrection.fit(targets, spends, contexts, levels)
    again = AimCorrection.from_dict(fitted.to_dict(), axes)
    assert again == fitted
    gaps = targets - again.aims(targets, contexts)
    torch.testing.assert_close(gaps, spends - targets, atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match=f"a correction of a policy with {axes + 1} axes"):
        AimCorrection.from_dict(fitted.to_dict(), axes + 1)
