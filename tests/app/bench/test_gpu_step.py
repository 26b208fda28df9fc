"""A whole step's launches are counted without a GPU, and the steps that are timed do decode."""

from unittest.mock import Mock

import pytest
import torch

from app.bench import kernels
from app.bench.card_report import step_rates
from app.bench.random_model import MODELS, ModelShape, random_model
from kernels.gpu.triton_support import recorded_launches
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.models.step.clock import no_lap

TINY = ModelShape("tiny", 40, 64, 96, 3, 4, 2, 16)
HALF = Action(0.5, 0.5)


@pytest.mark.parametrize("grid", GRIDS)
def test_launches_of_all_layers_are_those_of_as_many_layers_counted_one_by_one(grid):
    how = GRIDS[grid].mechanisms
    counts = kernels.count_launches(TINY, HALF, 40, how)
    for name, action in (("dense", DENSE), ("compressed", HALF)):
        assert counts[name] == kernels._count(TINY, action, 40, how)
    with recorded_launches():
        lm = random_model(TINY, 40, dtype=torch.float16)
    assert lm.weights.layers[0].gate_up.weight.is_contiguous(), "as on a GPU"
    # Pages are chosen; the MLP is pruned.
    assert counts["compressed"] > counts["dense"]
    deeper = TINY._replace(num_layers=4)
    per_layer = kernels.count_launches(deeper, HALF, 40, how)["dense"] - counts["dense"]
    assert per_layer == 7
    # What is there once: embedding, angles, mask, head. Within a graph it costs nothing to start.
    assert counts["dense"] - 3 * per_layer < 40


def test_a_step_of_the_default_model_starts_few_kernels():
    """A small model on a GPU waits for launches where a graph does not start them."""
    how = GRIDS["default"].mechanisms
    counts = kernels.count_launches(MODELS["SmolLM2-135M"], HALF, 2048, how)
    assert counts["dense"] <= 250
    assert counts["compressed"] <= 300


def test_the_timed_steps_decode_with_graphs_and_without():
    lm, run = random_model(TINY, 24 + 40, storage="fp32"), Mock()
    run.side_effect = lambda _key, _kind, step, fed, given, *_: step(
        fed, torch.tensor(given), no_lap
    )
    graphs = lm.graphs = Mock(run=run)
    rates = step_rates(lm, GRIDS["default"].mechanisms, 24)
    assert set(rates) == {"dense", "sparse", "dense_eager", "sparse_eager"}
    assert min(rates.values()) > 0
    assert run.call_count == 2 * (8 + 32)
    assert lm.graphs is graphs
