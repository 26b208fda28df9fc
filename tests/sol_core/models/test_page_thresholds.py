"""Floors of attention by need: what is read off the table, and what is refused."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.actions import GRIDS
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.model_tables.tables import PageThresholds, read_tables, shipped_floors

TABLE = PageThresholds("abc", (64, 1024), (0.1, 0.5), ((0.0, -2.0), (-1.0, -4.0)))


def test_measured_contexts_and_levels_are_read_as_they_are():
    for number, context in enumerate(TABLE.contexts):
        for place, level in enumerate(TABLE.levels):
            expected = math.exp(TABLE.log_floors[number][place])
            assert TABLE.floors((level,), context)[0] == pytest.approx(expected)
    # Halfway in the logarithm of the context, and a quarter of the way between two levels.
    assert TABLE.floors((0.1,), 256)[0] == pytest.approx(math.exp(-0.5))
    assert TABLE.floors((0.2,), 64)[0] == pytest.approx(math.exp(-0.5))


@given(level=st.floats(0.01, 0.99), context=st.integers(1, 100_000))
def test_floors_stay_within_the_table_and_fall_with_the_level(level, context):
    floor = TABLE.floors((level,), context)[0]
    assert math.exp(-4.001) <= floor <= 1.001
    assert TABLE.floors((min(0.99, level + 0.1),), context)[0] <= floor


@pytest.mark.parametrize(
    "change",
    [
        {"contexts": (1024, 64)},
        {"levels": (0.5, 1.0)},
        {"log_floors": TABLE.log_floors[:1]},
        {"log_floors": (TABLE.log_floors[0], (1.0,))},
        {"log_floors": (TABLE.log_floors[0], (1.0, math.nan))},
        {"contexts": None},
    ],
)
def test_damaged_tables_are_refused(change):
    assert from_json(PageThresholds, json.loads(json.dumps(asdict(TABLE)))) == TABLE
    with pytest.raises(ConfigError):
        from_json(PageThresholds, asdict(TABLE) | change, "page floors")
    with pytest.raises(ConfigError):
        from_json(PageThresholds, [], "page floors")


def test_the_shipped_table_serves_the_grid_at_every_length(tmp_path):
    shipped = shipped_floors()
    assert read_tables(tmp_path, shipped.fingerprint).floors is shipped
    assert read_tables(tmp_path, "another").floors is None
    assert shipped.contexts[0] == 64
    assert shipped.contexts[-1] >= 2048
    assert set(GRIDS["default"].keep_fractions[:-1]) <= set(shipped.levels)
    for line in shipped.log_floors:
        assert list(line) == sorted(line, reverse=True)  # more is read where less suffices
