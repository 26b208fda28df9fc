"""Two token sequences side by side."""

import random
import time
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sharing import alignment
from app.sharing.alignment import (
    SHORTEST,
    Stretch,
    align,
    first_divergence,
    longest_common_subsequence,
)

TOKENS = st.lists(st.integers(0, 3), max_size=30)
LONG = 4096
LOOP = [number * 7919 % 49_152 for number in range(37)] * 120


def test_later_agreements_are_found_and_short_ones_are_chance():
    first = [1, 2, 9, 9, 3, 4, 5, 6, 8]
    second = [1, 2, 7, 3, 4, 5, 6, 9, 8]
    assert align(first, second) == [
        Stretch(True, (0, 2), (0, 2)),
        Stretch(False, (2, 4), (2, 3)),
        Stretch(True, (4, 8), (3, 7)),
        Stretch(False, (8, 9), (7, 9)),
    ]
    assert align([1, 2], [3]) == [Stretch(False, (0, 2), (0, 1))]
    assert align([], []) == []


@given(TOKENS, TOKENS)
def test_stretches_cover_both_sides_in_order(first, second):
    stretches = align(first, second)
    ends = (0, 0)
    for number, stretch in enumerate(stretches):
        (a, a_end), (b, b_end) = stretch.first, stretch.second
        assert (a, b) == ends
        assert a_end > a or b_end > b
        ends = (a_end, b_end)
        if stretch.same:
            assert first[a:a_end] == second[b:b_end]
            assert number == 0 or a_end - a >= SHORTEST
    assert ends == (len(first), len(second))
    kinds = [stretch.same for stretch in stretches]
    assert all(one != after for one, after in pairwise(kinds))
    same = [one == other for one, other in zip(first, second, strict=False)]
    ends_alike = same.index(False) if False in same else len(same)
    parted = None if first == second else ends_alike
    assert first_divergence(first, second) == parted


def table_length(first, second):
    """The length of a longest common subsequence, by the textbook's table."""
    row = [0] * (len(second) + 1)
    for one in first:
        before, row = row, [0]
        for place, other in enumerate(second):
            row.append(before[place] + 1 if one == other else max(before[place + 1], row[-1]))
    return row[-1]


@given(TOKENS, TOKENS, st.sampled_from([1, 2, 5, 128]))
def test_a_longest_subsequence(first, second, rows_at_once):
    with patch.object(alignment, "_ROWS_AT_ONCE", rows_at_once):
        pairs = longest_common_subsequence(first, second)
    assert all(first[a] == second[b] for a, b in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    assert len(pairs) == table_length(first, second)


def test_chance_agreements_do_not_draw_a_longer_one_away():
    # Single common tokens would be a longer common subsequence than the phrase 50 … 54.
    first = [1, 50, 51, 52, 53, 54, 10, 2, 11, 3, 12, 4, 13, 5, 14, 6]
    second = [7, 1, 20, 2, 21, 3, 22, 4, 23, 5, 24, 6, 50, 51, 52, 53, 54]
    assert [one.first for one in align(first, second) if one.same] == [(1, 6)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0] * LONG, [1, 0, 0, 0] * (LONG // 4)),
        (random.Random(0).choices([0, 1], k=LONG), random.Random(1).choices([0, 1], k=LONG)),
        (list(range(LONG)), list(range(LONG))[::-1]),
        (LOOP[:LONG], LOOP[5 : LONG + 5]),
    ],
    ids=["threes", "two tokens", "reversed", "a loop"],
)
def test_no_text_takes_long(first, second):
    """About 10 ms each; a diff that looks for the longest block again and again takes minutes."""
    before = time.thread_time()
    align(first, second)
    assert time.thread_time() - before < 5
