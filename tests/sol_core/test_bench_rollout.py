"""The rollout benchmark on a tiny model: what it counts, and that its ratio follows."""

from __future__ import annotations

import json

import pytest

from sol_core.benchmarks.rollout import RolloutOptions, bench_rollout, step_flops
from sol_core.errors import ConfigError
from tests.tiny_language_model import make_language_model


def test_the_record_is_consistent() -> None:
    seen: list[float] = []
    options = RolloutOptions(context=20, rows=8, steps=3, group=4, rounds=2)
    result = bench_rollout(make_language_model(), options, lambda _, share: seen.append(share))
    assert json.loads(json.dumps(result)) == result
    assert seen == [0.0, 0.5, 1.0]
    rates, seconds = result["decisions_per_s"], result["seconds"]
    assert rates["rollout"] == pytest.approx(24 / seconds["rollout"])
    assert 0 < rates["with_prefill_and_reference"] < rates["rollout"]
    per_decision = result["gflop_per_decision"]
    assert result["floor_decisions_per_s"] == pytest.approx(result["gemm_gflops"] / per_decision)
    assert 0 < result["ratio_to_floor"] < 2
    assert (result["rows"], result["steps"], result["context"]) == (8, 3, 20)


def test_flops_by_hand() -> None:
    spec = make_language_model().spec  # 2 layers, C 96, I 176, 6 heads of 16, 2 KV heads, V 257
    weights, attention = step_flops(spec, 50)
    assert weights == 2 * (2 * (96 * (96 + 2 * 32) + 96 * 96 + 3 * 96 * 176) + 96 * 257)
    assert attention == 2 * (2 * 2 * 96 * 50)


@pytest.mark.parametrize("name", ["context", "rows", "steps", "group", "rounds"])
def test_nothing_of_something_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 1 or more, got 0"):
        RolloutOptions(**{name: 0})


def test_rows_that_are_no_whole_groups_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"multiple of the group \(16 .* ask for 48 rows"):
        RolloutOptions(rows=40)


def test_texts_longer_than_the_models_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="need 300 tokens"):
        bench_rollout(make_language_model(), RolloutOptions(context=290, steps=10), lambda *_: None)
