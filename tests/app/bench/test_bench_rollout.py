"""The rollout benchmark on a tiny model: what it counts, and that its ratio follows."""

import json
from unittest.mock import Mock

import pytest

from app.bench.rollout import RolloutOptions, bench_rollout
from sol_core.actions import GRIDS
from tests.support.tiny_language_model import make_language_model


def test_the_record_is_consistent():
    seen = []
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
    assert (result["windows"], result["text_tokens"]) == (2, 20 + 2 * 3)


@pytest.mark.parametrize("name", list(GRIDS))
def test_a_grid_is_measured_as_it_is_trained(monkeypatch, name):
    """And one text is prefilled once for all windows: in the warm-up, and in the round."""
    model = make_language_model()
    prefill, decode_step = (Mock(side_effect=f) for f in (model.lm.prefill, model.lm.decode_step))
    monkeypatch.setattr(model.lm, "prefill", prefill)
    monkeypatch.setattr(model.lm, "decode_step", decode_step)
    options = RolloutOptions(context=20, rows=8, steps=2, group=4, rounds=1, grid=name)
    assert bench_rollout(model, options, lambda *_: None)["grid"] == name
    assert [call.args[0].shape for call in prefill.call_args_list] == [(1, 20 + 2 * 2)] * 2
    steps = decode_step.call_args_list
    assert [len(call.args[0]) for call in steps] == [8] * 4
    assert all(call.kwargs["mechanisms"] == GRIDS[name].mechanisms for call in steps)
