"""Two token sequences side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.alignment import SHORTEST, Stretch, align, first_divergence

TOKENS = st.lists(st.integers(0, 3), max_size=30)


@pytest.mark.parametrize(
    ("first", "second", "parted"),
    [
        ([], [], None),
        ([1, 2], [1, 2], None),
        ([1, 2, 3], [1, 4, 3], 1),
        ([1, 2], [1, 2, 3], 2),
        ([5], [], 0),
    ],
)
def test_the_first_difference(first: list[int], second: list[int], parted: int | None) -> None:
    assert first_divergence(first, second) == parted
    assert first_divergence(second, first) == parted


def test_later_agreements_are_found_and_short_ones_are_chance() -> None:
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
def test_stretches_cover_both_sides_in_order(first: list[int], second: list[int]) -> None:
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
    parted = first_divergence(first, second)
    assert (parted is None) == all(stretch.same for stretch in stretches)
