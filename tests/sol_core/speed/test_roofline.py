"""The roofline estimate against hand counts and the cost model."""

from __future__ import annotations

import subprocess
import sys
from math import ceil

import pytest

from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.errors import ConfigError
from sol_core.speed.roofline import (
    CARDS,
    CONTEXTS,
    MODELS,
    Card,
    KernelCost,
    estimate_table,
    kernel_costs,
    step_floor_us,
)
from tests.sol_core.decoding.test_cost import SMOLLM2, in_bf16

DEFAULT = GRIDS["default"].mechanisms


@pytest.mark.parametrize("how", [PAPER, DEFAULT])
@pytest.mark.parametrize("action", [DENSE, Action(0.5, 0.5), Action(0.3, 1.0), Action(1.0, 0.4)])
@pytest.mark.parametrize("context", [512, 2048, 131_072])
def test_bytes_and_flops_agree_with_the_cost_model(
    action: Action, context: int, how: Mechanisms
) -> None:
    costs = kernel_costs(MODELS["SmolLM2-135M"], action, context, mechanisms=how)
    counted = in_bf16(SMOLLM2, mechanisms=how).decode_step(action, context)
    # The cost model leaves out activations and scratch.
    assert sum(c.bytes_moved for c in costs) == pytest.approx(counted.bytes_read, rel=0.12)
    assert sum(c.bytes_moved for c in costs) >= counted.bytes_read
    assert sum(c.flops for c in costs) == pytest.approx(counted.flops)


def test_a_floor_is_the_larger_of_two_times() -> None:
    card = Card("toy", bandwidth=1e6, flops=1e9)
    assert KernelCost("k", "rest", 1, 5.0, 1000.0).floor_us(card) == pytest.approx(5.0)
    assert KernelCost("k", "rest", 1, 5.0, 9000.0).floor_us(card) == pytest.approx(9.0)


def test_gate_and_up_by_hand() -> None:
    costs = {c.kernel: c for c in kernel_costs(MODELS["Llama-3.1-8B"], Action(1.0, 0.5), 512)}
    matrix = 2048 * 2 * 14_336
    assert costs["gate_up_rows"].bytes_moved == 32 * 2 * (matrix + 2048 + 2 * 14_336)
    assert costs["gate_up_rows"].flops == 32 * 2 * matrix
    assert "score_pages" not in costs


def test_pages_weighed_by_4_bit_keys_and_chosen_by_groups_by_hand() -> None:
    costs = {
        c.kernel: c
        for c in kernel_costs(MODELS["Llama-3.2-1B"], Action(0.25), 8192, mechanisms=DEFAULT)
    }
    layers, kv_heads, heads, size, pages = 16, 8, 32, 64, 1024
    estimate = 8192 * kv_heads * (size // 2 + 4)  # half a byte a channel, two bf16 a token
    assert costs["weigh_pages"].bytes_moved == layers * (estimate + heads * pages * 4)
    assert costs["weigh_pages"].flops == layers * 2 * heads * size * 8192
    assert costs["share_pages"].bytes_moved == layers * (heads + kv_heads) * pages * 4
    assert costs["choose_pages"].bytes_moved == layers * kv_heads * pages * 4
    kept = 2 * 2 * kv_heads * size * 2048
    assert costs["attend_pages"].bytes_moved == layers * (kept + 2 * heads * size * 4)
    assert costs["write_rows"].bytes_moved == layers * kv_heads * (size * 12.5 + 4)
    assert "score_pages" not in costs


def test_both_sides_of_the_mlp_by_hand() -> None:
    costs = {
        c.kernel: c
        for c in kernel_costs(MODELS["Llama-3.1-8B"], Action(1.0, 0.5), 512, mechanisms=DEFAULT)
    }
    entering, inner = ceil(0.56 * 4096), ceil(0.38 * 14_336)
    assert costs["gate_up_rows"].flops == 32 * 2 * entering * 2 * 14_336
    assert costs["down_rows"].flops == 32 * 2 * inner * 4096
    assert costs["down_rows"].bytes_moved == 32 * 2 * (inner * 4096 + inner + 4096)
    assert costs["list_channels"].launches == 64
    assert costs["list_channels"].bytes_moved == 32 * (
        4096 * 2 + entering * 4 + 14_336 * 2 + inner * 4
    )
    assert costs["keep_heaviest_rows"].bytes_moved == 32 * (14_336 * 6 + (14_336 - inner) * 2)


def test_the_table_covers_contexts_and_budgets_and_saves_more_at_length() -> None:
    table = estimate_table(MODELS["Llama-3.1-8B"], CARDS["A100"])
    assert [record["context"] for record in table[::4]] == list(CONTEXTS)
    assert [record["budget"] for record in table[:4]] == [1.0, 0.75, 0.5, 0.3]
    assert all(record["speedup"] == 1 for record in table[::4])
    half = [record["speedup"] for record in table if record["budget"] == 0.5]
    assert half == sorted(half)
    assert 1.2 < half[0] < half[-1] < 2


def test_parts_add_up() -> None:
    costs = kernel_costs(MODELS["SmolLM2-135M"], Action(0.5, 0.5), 2048)
    floor = step_floor_us(costs, CARDS["H100"])
    total = floor.pop("total")
    assert total == pytest.approx(sum(floor.values()))
    assert total == pytest.approx(sum(c.floor_us(CARDS["H100"]) for c in costs))


@pytest.mark.parametrize(
    ("name", "change"),
    [("cached_tokens", {"cached_tokens": 0}), ("page_size", {"page_size": 0})],
)
def test_bad_arguments_are_named(name: str, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=name):
        kernel_costs(MODELS["SmolLM2-135M"], DENSE, **{"cached_tokens": 9, **change})  # type: ignore[arg-type]  # wrong on purpose


def test_no_torch_is_imported() -> None:
    code = "import sys, sol_core.speed.roofline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
