"""The cost model against hand counts and torch's own FLOP counter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from kernels.linear import FEW_ROWS
from sol_core.actions import DENSE, Action
from sol_core.decoding.cost import CostModel
from sol_core.events import StepCost
from sol_core.models.spec import ModelSpec, RopeSpec
from tests.support.tiny_models import FAMILIES, make_pair

SMOLLM2 = ModelSpec(
    family="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30,
    num_heads=9, num_kv_heads=3, head_size=64, max_positions=8192, norm_eps=1e-5,
    activation="silu", attention_scale=0.125, windows=(None,) * 30, ropes=(RopeSpec(),) * 30,
    tied_head=True,
)  # fmt: skip


def test_dense_step_of_smollm2_by_hand() -> None:
    cost = CostModel(SMOLLM2, 2, 2).decode_step(DENSE, 2048)
    projections = 576 * (576 + 192 + 192) + 576 * 576
    assert cost.attention_flops == 30 * (2 * projections + 2 * 2 * 9 * 64 * 2048)
    assert cost.mlp_flops == 30 * 2 * 3 * 576 * 1536
    assert cost.head_flops == 2 * 576 * 49152
    assert cost.attention_bytes == 30 * 2 * (projections + 2 * 192 * 2048)
    assert cost.mlp_bytes == 30 * 2 * 3 * 576 * 1536
    assert cost.head_bytes == 2 * 576 * 49152
    assert cost.bytes_read / 1e6 == pytest.approx(316.1, abs=0.1)


def test_half_budget_of_smollm2_by_hand() -> None:
    cost = CostModel(SMOLLM2, 2, 2).decode_step(Action(0.5, 0.5, 8), 2048)
    projections = 576 * (576 + 192 + 192) + 576 * 576
    pages, tokens = 256, 1024
    assert cost.attention_bytes == 30 * 2 * (projections + 2 * 192 * (tokens + pages))
    assert cost.attention_flops == 30 * (2 * projections + 4 * 576 * (tokens + pages))
    assert cost.mlp_flops == 30 * 2 * (2 * 288 * 1536 + 1536 * 576)
    assert cost.bytes_read / 1e6 == pytest.approx(245.5, abs=0.5)


def test_short_last_page_and_window_by_hand() -> None:
    spec = ModelSpec(
        family="mistral", vocab_size=11, hidden_size=4, intermediate_size=6, num_layers=1,
        num_heads=2, num_kv_heads=1, head_size=2, max_positions=99, norm_eps=1e-5,
        activation="silu", attention_scale=1.0, windows=(20,), ropes=(RopeSpec(),),
        tied_head=False,
    )  # fmt: skip
    # 20 of 50 tokens are visible: 3 pages; ceil(0.3 · 20) = 6 tokens need one page of 8.
    cost = CostModel(spec, 4, 4).decode_step(Action(keep_fraction=0.3), 50)
    assert cost.attention_flops == 2 * 4 * (4 + 2 + 2 + 4) + 4 * 4 * (8 + 3)
    assert cost.attention_bytes == 4 * (4 * (4 + 2 + 2 + 4) + 2 * 2 * (8 + 3))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_dense_step_equals_torchs_flop_counter(family) -> None:  # type: ignore[no-untyped-def]
    _, lm = make_pair(family)
    rows = FEW_ROWS + 1  # torch's products: it cannot count those of the kernels for fewer
    cache = lm.new_cache(rows, 40)
    lm.prefill(torch.randint(3, 199, (rows, 7)), cache)  # within every window
    with FlopCounterMode(display=False) as counter:
        lm.decode_step(torch.full((rows,), 5), cache)
    # The counter sees one product more: rotary angles are not one, so the counts agree.
    assert rows * CostModel(lm.spec, 4, 4).decode_step(DENSE, 8).flops == counter.get_total_flops()


@given(keep=st.floats(0.05, 1.0), ratio=st.floats(0.05, 1.0), cached=st.integers(1, 5000))
def test_compression_never_costs_more_than_its_page_scores(
    keep: float, ratio: float, cached: int
) -> None:
    model = CostModel(SMOLLM2, 2, 2)
    dense = model.decode_step(DENSE, cached)
    cost = model.decode_step(Action(keep, ratio, 8), cached)
    page_scores = 30 * 4 * 576 * -(-cached // 8)
    assert cost.flops <= dense.flops + page_scores
    assert cost.mlp_bytes <= dense.mlp_bytes


def test_refresh_is_a_prefill_that_reads_weights_once() -> None:
    model = CostModel(SMOLLM2, 2, 2)
    assert model.prefill(0, 10) == StepCost()
    cost = model.prefill(16, 100)
    step = model.decode_step(DENSE, 116)
    assert cost.mlp_flops == 16 * step.mlp_flops
    assert cost.bytes_read == step.attention_bytes + step.mlp_bytes
    assert cost.head_flops == 0
    seen = sum(range(101, 117))
    per_token = 2 * 30 * (576 * 960 + 576 * 576)
    assert cost.attention_flops == 16 * per_token + 30 * 4 * 576 * seen
