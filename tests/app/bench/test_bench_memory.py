"""``bench memory``: every line length and kept share, sums checked, in a table."""

import pytest

from app.bench import memory
from app.bench.memory import KEPT, LINE_BYTES, bench_memory
from app.cli.terminal import record_text
from sol_core.errors import ConfigError


@pytest.fixture
def record(monkeypatch):
    monkeypatch.setattr(memory, "ARRAY_BYTES", 1536 * 40)
    return bench_memory(lambda message, share: None, rounds=2)


def test_every_length_and_share_is_measured(record):
    rows = record["speed_against_all"]
    assert [row["line_bytes"] for row in rows] == list(LINE_BYTES)
    names = [f"kept_{share:.0%}" for share in KEPT]
    assert all(list(row) == ["line_bytes", *names] for row in rows)
    assert all(row[name] > 0 for row in rows for name in names)
    assert record["ideal"]["kept_50%"] == 2
    assert "line bytes  kept 70%  kept 50%  kept 30%  kept 15%" in record_text(record)


def test_a_round_is_the_least():
    with pytest.raises(ConfigError, match="rounds must be 1"):
        bench_memory(lambda message, share: None, rounds=0)
