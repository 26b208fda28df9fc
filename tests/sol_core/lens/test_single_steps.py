"""The lessons' measurements, against plain scoring and plain arithmetic."""

import itertools
from statistics import fmean

import pytest
import torch

from sol_core.actions import DENSE, GRIDS, Action, ActionGrid
from sol_core.generation.engine import encode_prompt
from sol_core.generation.scoring import ScoreCase, score_case
from sol_core.generation.sequence import page_reads
from sol_core.lens import single_steps
from sol_core.lens.single_steps import (
    best_in_hindsight,
    compare_spenders,
    most_massive_output,
    next_choices,
    single_step_losses,
)

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = ActionGrid(page_size=4)
ACTIONS = (Action(keep_fraction=0.2), Action(bit_width=5), DENSE)
TEXT = "The keeper of the light wrote down the weather."


@pytest.fixture(scope="module")
def tokens(model):
    return encode_prompt(model, TEXT, chat=False)


def test_a_loss_is_that_of_one_compressed_step(model, tokens):
    first = 5
    table = single_step_losses(model, tokens, first, ACTIONS, GRID)
    assert [len(row) for row in table] == [len(tokens) - first] * len(ACTIONS)
    for action, row in zip(ACTIONS, table, strict=True):
        for place in (0, 3, len(row) - 1):
            schedule = (*(DENSE,) * place, action)
            case = ScoreCase(tuple(tokens), first - 1, (schedule,), GRID.page_size)
            assert row[place].nll == pytest.approx(score_case(model, case)[0][-1], abs=1e-4)
            assert row[place].kl >= 0
    assert all(loss.kl == 0 for loss in table[-1])
    assert max(loss.kl for loss in table[0]) > 1e-4


@pytest.mark.parametrize("grid", [GRID, GRIDS["default"]])
def test_pages_are_those_alone(model, tokens, grid):
    first = 5
    table = single_step_losses(model, tokens, first, ACTIONS, grid, with_reads=True)
    again = single_step_losses(model, tokens, first, ACTIONS, grid)
    for row, other in zip(table, again, strict=True):
        assert [(loss.nll, loss.kl) for loss in row] == [(loss.nll, loss.kl) for loss in other]
    for place in (0, 3, 20, len(table[0]) - 1):
        fed = first + place - 1
        cache = model.lm.new_cache(1, fed + 1, page_size=grid.page_size)
        model.lm.prefill(torch.tensor([tokens[:fed]]), cache)
        output = model.lm.decode_step(
            torch.tensor([tokens[fed]]), cache.branch(1, 1), ACTIONS[0],
            mechanisms=grid.mechanisms, record={"pages"},
        )  # fmt: skip
        alone = page_reads(output.page_readers[0].numpy(), model.spec.num_kv_heads)
        assert table[0][place].page_reads == alone
        dense = table[-1][place].page_reads
        assert dense.share == 1
    assert table[0][-1].page_reads.share < 0.8


def test_choices_are_the_best_of_each_row(model, tokens):
    dense, cheap = next_choices(model, tokens, [Action(channel_keep_ratio=0.4)])
    hidden = model.lm.prefill(torch.tensor([tokens]), model.lm.new_cache(1, len(tokens)))
    best = model.lm.logits(hidden[0, -1:])[0].softmax(-1).topk(5)
    assert [one.token_id for one in dense.top] == best.indices.tolist()
    assert [one.probability for one in dense.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert dense.kl == 0
    assert cheap.kl > 0
    assert cheap.entropy != dense.entropy
    (row,) = next_choices(model, [7], [])
    assert sum(one.probability for one in row.top) < 1


def test_the_most_massive_output(model, tokens, monkeypatch):
    monkeypatch.setattr(single_steps, "SCALE_BLOCK", 8)  # as this model is narrow
    output = most_massive_output(model, tokens, 5, (5, 8, 16))
    assert 5 <= output.token < len(tokens)
    assert 1 <= output.layer <= output.layers == model.spec.num_layers
    assert list(output.magnitudes) == sorted(output.magnitudes, reverse=True)
    assert len(output.magnitudes) == model.spec.hidden_size
    for bits, zeros, fewer in zip(output.bits, output.zeros, output.block_zeros, strict=True):
        spacing = output.magnitudes[0] / (2 ** (bits - 1) - 1)
        if bits < 16:
            assert zeros == sum(value < spacing / 2 for value in output.magnitudes)
        assert 0 <= fewer <= zeros
    assert output.block_zeros[0] < output.zeros[0]
    assert output.zeros[0] > output.zeros[1] >= output.zeros[2] == 0


def test_hindsight_finds_the_best_plan_of_convex_losses():
    levels = (0.4, 0.6, 0.8, 1.0)
    damages = [[0.9, 0.4, 0.1, 0.0], [0.2, 0.1, 0.05, 0.0], [2.0, 0.9, 0.3, 0.0]]
    chosen = best_in_hindsight(damages, levels, 0.7)
    assert sum(levels[at] for at in chosen) <= 3 * 0.7 + 1e-9
    best = min(
        sum(row[at] for row, at in zip(damages, plan, strict=True))
        for plan in itertools.product(range(4), repeat=3)
        if sum(levels[at] for at in plan) <= 3 * 0.7 + 1e-9
    )
    assert sum(row[at] for row, at in zip(damages, chosen, strict=True)) == pytest.approx(best)
    levels = (0.4, 0.7, 1.0)
    assert best_in_hindsight([[0.1, 0.2, 0.3]], levels, 1.0) == [0], "what helps is bought"
    assert best_in_hindsight([[0.5, 0.6, 0.0]], levels, 1.0) == [2], "a bump is jumped over"


def test_hindsight_spends_the_same_best(model, tokens):
    plans, table = compare_spenders(model, tokens, 20, 0.62, None)
    assert list(plans) == ["even", "hindsight"]
    even, hind = plans["even"], plans["hindsight"]
    assert fmean(even) == pytest.approx(0.62, abs=0.01)
    assert fmean(hind) == pytest.approx(fmean(even), abs=0.02)
    assert set(even) == {0.6, 0.65}
    levels = GRIDS["default"].channel_keep_ratios
    damage = {
        name: sum(table[levels.index(level)][step].kl for step, level in enumerate(plan))
        for name, plan in plans.items()
    }
    assert damage["hindsight"] < damage["even"]
