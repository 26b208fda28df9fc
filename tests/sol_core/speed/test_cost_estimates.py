"""The page's estimates: the roofline's floors for the loaded model and two others."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from sol_core.actions import DENSE, GRIDS, Action, ActionGrid
from sol_core.errors import ConfigError
from sol_core.speed.cost_estimates import (
    ESTIMATED_CARDS,
    ESTIMATED_CONTEXTS,
    estimated_steps,
    shape_of,
)
from sol_core.speed.roofline import CARDS, MODELS, kernel_costs, step_floor_us
from tests.sol_core.decoding.test_cost import SMOLLM2

PAPER = GRIDS["paper"]
LOADED = shape_of("mine", SMOLLM2)


def test_a_models_shape_is_what_the_roofline_knows_of_it() -> None:
    assert replace(LOADED, name="SmolLM2-135M") == MODELS["SmolLM2-135M"]


@pytest.mark.parametrize("context", ESTIMATED_CONTEXTS[:3])
@pytest.mark.parametrize("grid", [PAPER, ActionGrid(page_size=32), GRIDS["default"]])
def test_every_number_is_the_rooflines(context: int, grid: ActionGrid) -> None:
    spend, how = Action(0.5, 0.7), grid.mechanisms
    rows = estimated_steps(LOADED, 8192, spend, context, grid)
    shapes = (LOADED, MODELS["Llama-3.2-1B"], MODELS["Llama-3.1-8B"])
    assert [(row["model"], row["is_loaded"]) for row in rows] == [
        ("mine", True),
        ("Llama-3.2-1B", False),
        ("Llama-3.1-8B", False),
    ]
    for row, shape in zip(rows, shapes, strict=True):
        assert tuple(row["cards"]) == ESTIMATED_CARDS == ("A100", "H100")
        for name, cell in row["cards"].items():
            dense, spent = (
                step_floor_us(
                    kernel_costs(shape, action, context, page_size=grid.page_size, mechanisms=how),
                    CARDS[name],
                )
                for action in (DENSE, spend)
            )
            assert cell["dense_ms"] == pytest.approx(dense["total"] / 1000)
            assert cell["spend_ms"] == pytest.approx(spent["total"] / 1000)
            assert cell["saved"] == pytest.approx(1 - cell["spend_ms"] / cell["dense_ms"])
            assert 0 < cell["saved"] < 0.5
    json.dumps(rows, allow_nan=False)


def test_a_dense_run_saves_nothing() -> None:
    rows = estimated_steps(LOADED, 8192, DENSE, 2048, PAPER)
    assert {cell["saved"] for row in rows for cell in row["cards"].values()} == {0.0}


def test_a_context_that_the_model_cannot_hold_is_not_estimated() -> None:
    rows = estimated_steps(LOADED, 8191, Action(0.5), 8192, PAPER)
    assert [row["cards"] is None for row in rows] == [True, False, False]
    assert estimated_steps(LOADED, 8192, Action(0.5), 8192, PAPER)[0]["cards"] is not None


def test_a_loaded_model_is_not_listed_twice() -> None:
    loaded = replace(MODELS["Llama-3.2-1B"], name="meta-llama/Llama-3.2-1B")
    names = [row["model"] for row in estimated_steps(loaded, 131_072, DENSE, 512, PAPER)]
    assert names == ["meta-llama/Llama-3.2-1B", "Llama-3.1-8B"]


def test_a_context_that_is_not_listed_is_refused() -> None:
    with pytest.raises(ConfigError, match="context must be one of"):
        estimated_steps(LOADED, 8192, DENSE, 100, PAPER)


def test_no_torch_is_imported() -> None:
    code = "import sys, sol_core.speed.cost_estimates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
