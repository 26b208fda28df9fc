"""``bench decode``: what runs, how ratios are made, and one contestant on a tiny model."""

from pathlib import Path

import pytest

from app.bench.decode import BenchOptions, _contestants, bench_decode, summary

OPTIONS = BenchOptions(Path("model"), rounds=3, policy_folder=Path("policy"))
READY = {
    "mixes": [
        {
            "context": context,
            "share_asked": share,
            "share": max(share, 0.6) if context == 256 else share,
            "keep_fraction": 0.1,
            "channel_keep_ratio": 0.3 if context == 256 else share,
            "dense_bytes": 5e7,
        }
        for context in (256, 2048)
        for share in (0.65, 0.5)
    ],
    "storage": "q4",
    "tuning": None,
}
SHAPE = "layers=2,hidden=64,intermediate=128,heads=4,kv_heads=2,head_size=16,vocab=64"


def test_ratios_are_medians_within_rounds():
    contestants = _contestants(OPTIONS, READY["mixes"])
    rates = {name: [10.0, 20.0, 40.0] for name in contestants}
    rates["mix_0.1_0.5_2048"] = [12.0, 26.0, 44.0]  # 1.2, 1.3, 1.1 of dense in the same round
    rates["policy"] = [9.0, 19.0, 39.0]
    rates["transformers_float32"] = [5.0, 5.0, 5.0]
    rates["transformers_bfloat16"] = [4.0, 4.0, 4.0]
    rates["transformers_compiled_float32"] = [3.0, 3.0, 3.0]
    rates["transformers_compiled_bfloat16"] = [4.0, 8.0, 4.0]
    record = summary(rates, 1.0, READY)
    half = next(r for r in record["mixes"] if (r["context"], r["share_asked"]) == (2048, 0.5))
    assert half["speedup"] == pytest.approx(1.2)
    assert half["of_ideal"] == pytest.approx(0.6)
    assert record["policy_overhead"] == pytest.approx(0.05)
    assert record["ratio_to_transformers"] == pytest.approx(2.5)
    assert record["bandwidth_share"] == pytest.approx(1.0)


@pytest.mark.parametrize("storage", ["bf16", "q4"])
def test_a_shape_is_measured_without_a_file(storage, monkeypatch):
    monkeypatch.setattr("app.bench.decode.measure_read_bandwidth", lambda: 10.0)
    monkeypatch.setattr("app.bench.decode.LONG_CONTEXTS", (64,))
    options = BenchOptions(
        None, context=16, new_tokens=2, rounds=1, shape=SHAPE, storage=storage,
        policy_folder=Path("none"),
    )  # fmt: skip
    record = bench_decode(options, lambda message, share: None)
    assert record["storage"] == storage
    assert [row["context"] for row in record["dense"]] == [16, 64]
    assert len(record["mixes"]) == 4
    assert all(row["tokens_per_s"] > 0 for row in record["mixes"])
    assert record["ratio_to_transformers"] is record["policy_overhead"] is None
