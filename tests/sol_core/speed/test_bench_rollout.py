"""The rollout benchmark on a tiny model: what it counts, and that its ratio follows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sol_core.actions import GRIDS
from sol_core.errors import ConfigError
from sol_core.speed.rollout import RolloutOptions, bench_rollout
from tests.support.tiny_language_model import make_language_model


def test_the_record_is_consistent() -> None:
    seen: list[float] = []
    options = RolloutOptions(context=20, rows=8, steps=3, group=4, rounds=3)
    result = bench_rollout(make_language_model(), options, lambda _, share: seen.append(share))
    assert json.loads(json.dumps(result)) == result
    assert seen == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    seconds = result["seconds"]
    assert set(seconds) == {"prefill", "rollout", "policy", "dense_reference", "update"}
    assert min(seconds.values()) > 0, "every part is under the clock"
    assert result["decisions_per_s"] == pytest.approx(24 / seconds["rollout"])
    whole = 24 / sum(seconds.values())  # medians of parts, not of sums: about the same
    assert result["decisions_per_s_total"] == pytest.approx(whole, rel=0.7)
    assert result["decisions_per_s_total"] < result["decisions_per_s"]
    assert 0 < result["policy_share"] < 1
    per_decision = result["gflop_per_decision"]
    assert result["floor_decisions_per_s"] == pytest.approx(result["gemm_gflops"] / per_decision)
    assert 0 < result["ratio_to_floor"] < 2
    assert (result["rows"], result["steps"], result["context"]) == (8, 3, 20)
    assert (result["windows"], result["text_tokens"]) == (2, 20 + 2 * 3)


@pytest.mark.parametrize("name", list(GRIDS))
def test_a_grid_is_measured_as_it_is_trained(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = make_language_model()
    used, decode_step = [], model.lm.decode_step

    def watched_step(*args: Any, **options: Any) -> Any:
        used.append(options["mechanisms"])
        return decode_step(*args, **options)

    monkeypatch.setattr(model.lm, "decode_step", watched_step)
    options = RolloutOptions(context=20, rows=4, steps=2, group=4, rounds=1, grid=name)
    assert bench_rollout(model, options, lambda *_: None)["grid"] == name
    assert set(used) == {GRIDS[name].mechanisms}


def test_one_text_is_prefilled_once_for_all_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_language_model()
    prefilled: list[tuple[int, ...]] = []
    rows: list[int] = []
    prefill, decode_step = model.lm.prefill, model.lm.decode_step

    def watched_prefill(tokens: Any, *args: Any, **options: Any) -> Any:
        prefilled.append(tuple(tokens.shape))
        return prefill(tokens, *args, **options)

    def watched_step(tokens: Any, *args: Any, **options: Any) -> Any:
        rows.append(len(tokens))
        return decode_step(tokens, *args, **options)

    monkeypatch.setattr(model.lm, "prefill", watched_prefill)
    monkeypatch.setattr(model.lm, "decode_step", watched_step)
    options = RolloutOptions(context=20, rows=8, steps=3, group=4, rounds=1)
    bench_rollout(model, options, lambda *_: None)
    assert prefilled == [(1, 20 + 2 * 3)] * 2, "once in the warm-up, once in the round"
    assert rows == [8] * 3 * 2


@pytest.mark.parametrize("name", ["context", "rows", "steps", "group", "rounds"])
def test_nothing_of_something_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 1 or more, got 0"):
        RolloutOptions(**{name: 0})


def test_rows_that_are_no_whole_groups_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"multiple of the group \(16 .* ask for 48 rows"):
        RolloutOptions(rows=40)


def test_texts_longer_than_the_models_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="need 330 tokens"):
        bench_rollout(make_language_model(), RolloutOptions(context=290, steps=10), lambda *_: None)
