"""First words and strip of a run: how many cells, of which shares, and what has no strip."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runs.preview import MAX_CELLS, MAX_CHARACTERS, first_words, preview_of

costs = st.lists(st.tuples(st.integers(0, 10**12), st.integers(10**6, 10**12)), min_size=1)


def steps(*costs: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {"cost": {"bytes_read": read}, "dense_cost": {"bytes_read": dense}} for read, dense in costs
    ]


def test_each_token_is_a_cell_up_to_as_many_as_a_strip_has() -> None:
    made = preview_of("Yes.", steps((50, 100), (100, 100), (101, 100), (62.4, 100)))
    assert made == {"words": "Yes.", "share": 78, "cells": [50, 100, 101, 62]}
    dense = preview_of("", steps(*[(100, 100)] * MAX_CELLS))
    assert dense["cells"] == [100] * MAX_CELLS


def test_a_longer_run_is_averaged_stretch_by_stretch_in_order() -> None:
    halves = steps(*[(20, 100)] * 300, *[(80, 100)] * 300)
    made = preview_of("", halves)
    assert made["cells"] == [20] * 60 + [80] * 60
    assert made["share"] == 50
    pairs = preview_of("", steps(*[(40, 100), (60, 100)] * MAX_CELLS))
    assert pairs["cells"] == [50] * MAX_CELLS


def test_a_share_is_of_bytes_so_a_long_step_weighs_more() -> None:
    assert preview_of("", steps((100, 1000), (100, 100)))["share"] == 18


@given(costs)
def test_cells_cover_every_token_once(costs: list[tuple[int, int]]) -> None:
    made = preview_of("", steps(*costs))
    assert len(made["cells"]) == min(len(costs), MAX_CELLS)
    shares = [100 * read / dense for read, dense in costs]
    assert min(shares) - 0.5 <= made["share"] <= max(shares) + 0.5
    assert all(min(shares) - 0.5 <= cell <= max(shares) + 0.5 for cell in made["cells"])


@pytest.mark.parametrize("length", [121, 199, 240, 1000])
def test_no_token_of_a_long_run_is_left_out(length: int) -> None:
    for at in (0, length // 2, length - 1):
        events = steps(*[(0, 100)] * at, (10_000, 100), *[(0, 100)] * (length - at - 1))
        assert sum(cell > 0 for cell in preview_of("", events)["cells"]) == 1


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"cost": 5, "dense_cost": 5},
        {"cost": {"bytes_read": None}, "dense_cost": {"bytes_read": 1}},
        {"cost": {"bytes_read": "many"}, "dense_cost": {"bytes_read": 1}},
        *steps((1, 0), (-1, 100), (1e300, 1), (1, 1e-300), (float("nan"), 1)),
        *steps((10**400, 1)),
        *(
            {"rows": rows}
            for rows in (
                [],
                5,
                [5],
                [{"cost": 5}],
                [{"cost": {"mlp_bytes": "many"}}],
                [{"cost": {}}],
            )
        ),
    ],
)
def test_tokens_that_do_not_say_what_was_read_have_no_strip(broken: dict[str, Any]) -> None:
    made = preview_of("Words", [*steps((1, 2)), broken])
    assert made == {"words": "Words", "share": None, "cells": []}


def test_no_tokens_have_no_strip() -> None:
    assert preview_of("", []) == {"words": "", "share": None, "cells": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n  Two\tlines\r\nof \u2028 text ", "Two lines of text"),
        ("<img src=x> ${7*7}", "<img src=x> ${7*7}"),
        ("a" * MAX_CHARACTERS, "a" * MAX_CHARACTERS),
        ("a" * (MAX_CHARACTERS + 1), "a" * (MAX_CHARACTERS - 1) + "…"),
        ("", ""),
    ],
)
def test_first_words_are_one_line(text: str, words: str) -> None:
    assert first_words(text) == words


@given(st.text(st.characters(), max_size=3 * MAX_CHARACTERS))
def test_first_words_are_never_longer(text: str) -> None:
    assert len(first_words(text)) <= MAX_CHARACTERS
    assert "\n" not in first_words(text)
