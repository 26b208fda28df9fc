"""The cost model against hand counts and torch's own FLOP counter."""

import dataclasses
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kernels import page_attention
from kernels.linear import FEW_ROWS
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.events import StepCost
from sol_core.models.spec import MatrixBytes, ModelSpec, RopeSpec, WeightBytes
from tests.support.tiny_models import FAMILIES, make_pair

SMOLLM2 = ModelSpec(
    family="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30,
    num_heads=9, num_kv_heads=3, head_size=64, max_positions=8192, norm_eps=1e-5,
    activation="silu", attention_scale=0.125, windows=(None,) * 30, ropes=(RopeSpec(),) * 30,
    tied_head=True,
)  # fmt: skip
PROJECTIONS = 576 * (576 + 192 + 192) + 576 * 576


def costs_of(spec, size=2, **options):
    """Costs of a model whose weights and cache have this many bytes a number."""
    return CostModel(spec, WeightBytes.unpacked(spec, size), size, **options)


def test_dense_step_of_smollm2_by_hand():
    cost = costs_of(SMOLLM2).decode_step(DENSE, 2048)
    assert cost.attention_flops == 30 * (2 * PROJECTIONS + 2 * 2 * 9 * 64 * 2048)
    assert cost.mlp_flops == 30 * 2 * 3 * 576 * 1536
    assert cost.head_flops == 2 * 576 * 49152
    assert cost.attention_bytes == 30 * 2 * (PROJECTIONS + 2 * 192 * 2048)
    assert cost.mlp_bytes == 30 * 2 * 3 * 576 * 1536
    assert cost.head_bytes == 2 * 576 * 49152
    assert cost.bytes_read / 1e6 == pytest.approx(316.1, abs=0.1)
    multiplied = 30 * (PROJECTIONS + 2 * 9 * 64 * 2048 + 3 * 576 * 1536) + 576 * 49152
    assert cost.bit_operations == 16 * 16 * multiplied


def test_half_budget_of_smollm2_by_hand():
    cost = costs_of(SMOLLM2).decode_step(Action(0.5, 0.5, 8), 2048)
    pages, tokens = 256, 1024
    assert cost.attention_bytes == 30 * 2 * (PROJECTIONS + 2 * 192 * (tokens + pages))
    assert cost.attention_flops == 30 * (2 * PROJECTIONS + 4 * 576 * (tokens + pages))
    assert cost.mlp_flops == 30 * 2 * (2 * 288 * 1536 + 1536 * 576)
    assert cost.bytes_read / 1e6 == pytest.approx(245.5, abs=0.5)


def test_what_was_read_and_who_observes_by_hand():
    by_token = dataclasses.replace(GRIDS["default"].mechanisms, quant_block=0)
    costs = costs_of(SMOLLM2, mechanisms=by_token)
    estimate = 30 * 2048 * 3 * (64 / 2 + 4)
    read = costs.decode_step(Action(0.5), 2048, StepReads(90 * 100.0))
    assert read.attention_bytes == 30 * 2 * PROJECTIONS + estimate + 90 * 100 * 2 * 64 * 2
    dense = costs.decode_step(DENSE, 2048)
    assert (
        costs.decode_step(DENSE, 2048, StepReads(observed=True)).bytes_read - dense.bytes_read
        == estimate
    )
    eight = costs.decode_step(Action(bit_width=8), 2048)
    assert dense.bit_operations - eight.bit_operations == 30 * 3 * 576 * 1536 * 16 * 8
    assert eight.bytes_read == dense.bytes_read
    by_blocks = GRIDS["default"].mechanisms
    blocks = costs_of(SMOLLM2, mechanisms=by_blocks).decode_step(Action(bit_width=8), 2048)
    assert blocks.bit_operations - eight.bit_operations == 30 * 3 * 576 * 1536 * 16 * 0.5
    assert blocks.bytes_read == eight.bytes_read


def test_blocks_have_scales_that_pruning_does_not_skip():
    plain = WeightBytes.unpacked(SMOLLM2, 2)
    some = dataclasses.replace(
        plain, gate_up=MatrixBytes(20.0, 100.0, 4), down=MatrixBytes(10.0, 1536.0, 4)
    )
    costs = CostModel(SMOLLM2, some, 2)
    assert costs.decode_step(Action(1.0, 0.5), 9).mlp_bytes == 20 + 50 + some.down.nbytes
    how = GRIDS["default"].mechanisms
    entering, inner = how.mlp_fractions(0.5)
    found = CostModel(SMOLLM2, some, 2, mechanisms=how).decode_step(Action(1.0, 0.5), 9)
    kept = math.ceil(entering * 576) / 576, math.ceil(inner * 1536)
    assert found.mlp_bytes == pytest.approx(20 + 100 * kept[0] + 10 + kept[1])
    assert kept[1] < 1536


def test_short_last_page_and_window_by_hand():
    spec = ModelSpec(
        family="mistral", vocab_size=11, hidden_size=4, intermediate_size=6, num_layers=1,
        num_heads=2, num_kv_heads=1, head_size=2, max_positions=99, norm_eps=1e-5,
        activation="silu", attention_scale=1.0, windows=(20,), ropes=(RopeSpec(),),
        tied_head=False,
    )  # fmt: skip
    # 20 of 50 tokens are visible: 3 pages; ceil(0.3 · 20) = 6 tokens need one page of 8.
    cost = costs_of(spec, 4).decode_step(Action(keep_fraction=0.3), 50)
    assert cost.attention_flops == 2 * 4 * (4 + 2 + 2 + 4) + 4 * 4 * (8 + 3)
    assert cost.attention_bytes == 4 * (4 * (4 + 2 + 2 + 4) + 2 * 2 * (8 + 3))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_dense_step_equals_torchs_flop_counter(family, monkeypatch):
    # torch's products: it cannot count those of the kernels.
    monkeypatch.setattr(page_attention, "cpu_kernel_fits", lambda *given: False)
    _, lm = make_pair(family)
    rows = FEW_ROWS + 1
    cache = lm.new_cache(rows, 40)
    lm.prefill(torch.randint(3, 199, (rows, 7)), cache)  # within every window
    with FlopCounterMode(display=False) as counter:
        lm.decode_step(torch.full((rows,), 5), cache, batched=True)
    # The counter sees one product more: rotary angles are not one, so the counts agree.
    assert rows * costs_of(lm.spec, 4).decode_step(DENSE, 8).flops == counter.get_total_flops()


def test_a_prefill_reads_weights_once():
    model = costs_of(SMOLLM2)
    assert model.prefill(0, 10) == StepCost()
    cost = model.prefill(16, 100)
    step = model.decode_step(DENSE, 116)
    assert cost.mlp_flops == 16 * step.mlp_flops
    assert cost.bytes_read == step.attention_bytes + step.mlp_bytes
    assert cost.head_flops == 0
    seen = sum(range(101, 117))
    assert cost.attention_flops == 16 * 2 * 30 * PROJECTIONS + 30 * 4 * 576 * seen
