"""``bench decode``: its options, a model of random weights, and its table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sol_core.speed import decode
from tests.app.command_line import RunCommand

MIX: dict[str, Any] = {
    **{"context": 256, "share_asked": 0.5, "share": 0.58, "keep_fraction": 0.1},
    **{"channel_keep_ratio": 0.3, "dense_bytes": 4e8, "tokens_per_s": 80.0, "speedup": 1.6},
    "of_ideal": 0.928,
}
RECORD: dict[str, Any] = {
    "dense": [{"context": 256, "bytes": 4e8, "tokens_per_s": 50.0}],
    "mixes": [MIX, MIX | {"share_asked": 0.65, "share": 0.58}],
    "ratio_to_llama_cpp": {"256": 2.5},
    "storage": "q4",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[decode.BenchOptions]:
    """Options that the measurement, a stand-in here, was given."""
    options: list[decode.BenchOptions] = []

    def bench(given: decode.BenchOptions, on_progress: Any) -> dict[str, Any]:
        options.append(given)
        return RECORD

    monkeypatch.setattr(decode, "bench_decode", bench)
    return options


def test_a_shape_needs_no_model_and_gives_a_record_or_a_table(
    run: RunCommand, asked: list[decode.BenchOptions]
) -> None:
    done = run("bench", "decode", "--shape", "0.6b", "--storage", "q4", "--rounds", "2", "--json")
    assert (done.status, json.loads(done.out)) == (0, RECORD)
    (options,) = asked
    assert (options.model_folder, options.shape, options.storage) == (None, "0.6b", "q4")
    assert (options.context, options.new_tokens, options.rounds) == (256, 24, 2)
    lines = run("bench", "decode", "--shape", "0.6b").out.splitlines()
    mixes = lines.index("mixes")
    assert [line.split()[:3] for line in lines[mixes + 2 : mixes + 4]] == [
        ["256", "0.5", "0.58"],
        ["256", "0.65", "0.58"],
    ]
    assert f"{'ratio to llama cpp 256':24} 2.5" in lines


@pytest.mark.parametrize(
    "wrong", [["--shape", "0.7b"], ["--shape", "0.6b", "--storage", "q5"], ["--shape", "layers=2"]]
)
def test_shapes_that_cannot_be_made_are_refused(run: RunCommand, wrong: list[str]) -> None:
    done = run("bench", "decode", *wrong)
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith("error: ")
