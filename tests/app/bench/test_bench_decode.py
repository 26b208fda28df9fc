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


OTHERS = [("transformers", "bfloat16"), ("llama_cpp", "Q4_0"), ("openvino", "Q4_0")]
CONTESTANTS = _contestants(OPTIONS, READY["mixes"], OTHERS)


def test_every_program_reads_and_decodes_the_slow_one_at_the_first_context():
    others = {name: turn for name, turn in CONTESTANTS.items() if turn.side != "ours"}
    assert {(turn.side, turn.context) for turn in others.values()} == {
        ("transformers", 256), ("llama_cpp", 256), ("llama_cpp", 2048),
        ("openvino", 256), ("openvino", 2048),
    }  # fmt: skip
    assert {turn.kind for turn in others.values()} == {CONTESTANTS["dense_256"].kind} == {"read"}
    random = _contestants(BenchOptions(None, shape=SHAPE), READY["mixes"], [])
    assert {turn.kind for turn in random.values()} == {"fixed"}


def test_ratios_are_medians_within_rounds():
    rates = {name: [10.0, 20.0, 40.0] for name in CONTESTANTS}
    rates["mix_0.1_0.5_2048"] = [12.0, 26.0, 44.0]  # 1.2, 1.3, 1.1 of dense in the same round
    rates["policy"] = [9.0, 19.0, 39.0]
    rates["openvino_Q4_0_256"] = [5.0, 8.0, 5.0]  # 2, 2.5, 8
    rates["llama_cpp_Q4_0_256"] = [4.0, 4.0, 40.0]  # 2.5, 5, 1
    reading = [name for name, turn in CONTESTANTS.items() if turn.kind == "read"]
    rates |= {f"{name}_prefill": [100.0] for name in reading}
    rates["llama_cpp_Q4_0_256_prefill"] = [400.0]
    record = summary(rates, 1.0, READY, CONTESTANTS)
    half = next(r for r in record["mixes"] if (r["context"], r["share_asked"]) == (2048, 0.5))
    assert half["speedup"] == pytest.approx(1.2)
    assert half["of_ideal"] == pytest.approx(0.6)
    assert record["policy_overhead"] == pytest.approx(0.05)
    assert record["bandwidth_share"] == pytest.approx(1.0)
    assert record["dense"][0]["prefill_tokens_per_s"] == 100
    rows = {(row["anchor"], row["context"]): row for row in record["anchors"]}
    assert len(rows) == 5
    assert rows["openvino Q4_0", 256]["ratio"] == pytest.approx(2.5)
    assert rows["llama_cpp Q4_0", 256]["prefill_ratio"] == pytest.approx(0.25)


def test_the_best_program_is_found_for_prefill_and_decoding_by_themselves():
    rates = {name: [10.0] for name in CONTESTANTS}
    rates |= {f"{name}_prefill": [100.0] for name in CONTESTANTS}
    rates["llama_cpp_Q4_0_256_prefill"] = [400.0]
    rates["openvino_Q4_0_256"] = [40.0]
    best = summary(rates, 1.0, READY, CONTESTANTS)["against_best"]
    assert [row["context"] for row in best] == [256, 2048]
    assert best[0] == {
        "context": 256,
        "prefill_anchor": "llama_cpp Q4_0",
        "prefill_ratio": 0.25,
        "decode_anchor": "openvino Q4_0",
        "decode_ratio": 0.25,
    }


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
    assert record["anchors"] == record["against_best"] == []
    assert record["policy_overhead"] is record["dense"][0]["prefill_tokens_per_s"] is None
