"""The default model's head in two passes, against the head read whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kernels.head_preview import MARGIN, RESCORED
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError
from sol_core.model_tables.tables import directions_from_record, directions_record

DEFAULT = GRIDS["default"].mechanisms
WHOLE = replace(DEFAULT, head="whole")
PROSE = Path(__file__).parents[3] / "README.md"
ROUNDED = Action(bit_width=15)  # drops next to nothing but the head's second form


def test_directions_are_read_back_and_nothing_else_is():
    directions = torch.linalg.qr(torch.randn(64, 32)).Q.half().float()
    assert torch.equal(directions_from_record(directions_record(directions)), directions)
    for record in (
        {},
        {"shape": [64, 32], "float16": "no base 64"},
        {**directions_record(directions), "shape": [64, 31]},
        {**directions_record(directions), "shape": [2048]},
        directions_record(torch.full((4, 2), torch.nan)),
    ):
        with pytest.raises(ConfigError, match="directions"):
            directions_from_record(record)


@pytest.mark.model
def test_the_likely_tokens_are_exact_and_the_rest_costs_next_to_nothing(either_model):
    lm, tokens = either_model.lm, either_model.encode(PROSE.read_text("utf-8"))[:129]
    if lm.weight_bytes.preview is None:
        pytest.skip("steps do not read quantised blocks here")

    def logits(how, action):
        cache = lm.new_cache(1, len(tokens))
        lm.prefill(torch.tensor([tokens[:96]]), cache)
        steps = [
            lm.decode_step(torch.tensor([token]), cache, action, mechanisms=how).logits
            for token in tokens[96:-1]
        ]
        return torch.cat(steps)

    assert torch.equal(logits(DEFAULT, DENSE), logits(WHOLE, DENSE))  # a dense step reads all
    whole, previewed = logits(WHOLE, ROUNDED), logits(DEFAULT, ROUNDED)
    likely = whole >= whole.amax(-1, keepdim=True) - MARGIN / 2
    torch.testing.assert_close(previewed[likely], whole[likely], atol=1e-3, rtol=0)
    wanted, got = whole.log_softmax(-1), previewed.log_softmax(-1)
    assert (wanted.exp() * (wanted - got)).sum(-1).mean() < 0.003
    assert RESCORED / 2 < (previewed - whole).abs().lt(1e-3).sum(-1).float().mean() < 4 * RESCORED


@pytest.mark.model
def test_a_step_that_drops_something_is_counted_without_the_head_s_saving(either_model):
    weights = either_model.lm.weight_bytes
    if weights.preview is None:
        pytest.skip("steps do not read quantised blocks here")
    costs = CostModel.of(either_model.lm, GRIDS["default"])
    dense, rounded = (costs.decode_step(action, 64).bytes_read for action in (DENSE, ROUNDED))
    first, row = weights.preview
    assert dense - rounded == weights.head.nbytes - first - RESCORED * row
    counted = costs.decode_step(ROUNDED, 64, StepReads(head_rows=100)).bytes_read
    assert counted - rounded == (100 - RESCORED) * row
    assert costs.head_bytes_saved(DENSE) == 0
    assert CostModel.of(either_model.lm, GRIDS["paper"]).head_bytes_saved(ROUNDED) == 0
