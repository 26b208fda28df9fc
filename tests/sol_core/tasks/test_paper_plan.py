"""Static with the paper's mechanisms at the bytes of static on the default grid."""

from __future__ import annotations

import numpy as np
import pytest

from sol_core.actions import GRIDS, PAPER, Budget
from sol_core.comparing.methods import paper_grid
from sol_core.decoding.cost import CostModel, StepBytes
from sol_core.tasks.plans import StaticPlan, paper_budget
from sol_core.tasks.questions import Continuation
from tests.support.tiny_language_model import make_language_model

ONES = [Continuation(n // 2, n % 2, (1,) * (20 + n), (3,) * (4 + n % 5), 2) for n in range(80)]


def _read(budget: Budget, paper: bool) -> float:
    """Mean computed bytes a step of static."""
    grid = GRIDS["default"]
    grid = paper_grid(grid) if paper else grid
    counts = StepBytes(CostModel.of(make_language_model().lm, grid))
    pairs = [ONES[n : n + 2] for n in range(0, len(ONES), 2)]
    plan = StaticPlan(budget, grid, [[len(one.tokens) for one in pair] for pair in pairs])
    return float(
        np.mean(
            [
                counts.of(action, len(one.context) + step)
                for one in ONES
                for step, action in enumerate(plan.actions(one.question, len(one.tokens)))
            ]
        )
    )


@pytest.mark.parametrize("spend", [Budget(0.83, 0.86, 14), Budget(0.42, 0.64, 13), Budget(1, 0.5)])
def test_equal_bytes_take_a_lower_ratio(spend: Budget) -> None:
    target, lm, grid = _read(spend, False), make_language_model().lm, paper_grid(GRIDS["default"])
    assert grid.mechanisms == PAPER
    found = paper_budget(spend, target, lm, grid, ONES)
    assert (found.keep_fraction, found.bit_width) == (spend.keep_fraction, spend.bit_width)
    assert found.channel_keep_ratio < spend.channel_keep_ratio
    assert _read(found, True) == pytest.approx(target, rel=0.005)


def test_what_cannot_be_met_is_met_as_nearly_as_it_can() -> None:
    lm, grid = make_language_model().lm, paper_grid(GRIDS["default"])
    spend = Budget(0.5, 0.3, 8)
    assert paper_budget(spend, _read(spend, False), lm, grid, ONES).channel_keep_ratio == 0.05
    assert paper_budget(spend, 1e12, lm, grid, ONES).channel_keep_ratio == 1.0


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_every_grid_has_the_papers_mechanisms_beside_its_levels(name: str) -> None:
    found = paper_grid(GRIDS[name])
    assert found.mechanisms == GRIDS["paper"].mechanisms
    assert found.keep_fractions == GRIDS[name].keep_fractions
