"""Small compiled functions against NumPy, on the bit patterns that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.from_python import from_python

numba = pytest.importorskip("numba")

SCORES = st.floats(width=32, allow_nan=False)


@pytest.mark.parametrize("instruction", [True, False])
def test_every_finite_float16_is_widened_exactly(
    instruction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels.cpu import numba_helpers

    if instruction and not numba_helpers.cpu_has("f16c"):
        pytest.skip("the CPU has no instruction for it")
    monkeypatch.setattr(numba_helpers, "cpu_has", lambda feature: instruction)
    widened = numba.njit(numba_helpers._widen(numba.types.int16))

    @numba.njit
    def widen_all(patterns):
        return np.array([widened(pattern) for pattern in patterns], np.float32)

    patterns = np.arange(2**16, dtype=np.uint16)
    patterns = patterns[np.isfinite(patterns.view(np.float16))]
    expected = patterns.view(np.float16).astype(np.float32)
    found = widen_all(patterns.view(np.int16))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@given(scores=st.lists(SCORES, min_size=1, max_size=70), begin=st.integers(0, 5))
def test_the_largest_score_of_a_stretch_is_found(scores: list[float], begin: int) -> None:
    from kernels.cpu.numba_softmax import LEAST, largest

    table = np.full((2, len(scores) + begin + 3), np.inf, np.float32)
    table[1, begin : begin + len(scores)] = scores
    found = from_python(largest)(table, 1, begin, begin + len(scores))
    assert found == max(LEAST, np.float32(max(scores)))


@pytest.mark.parametrize("heads", [1, 3, 5])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("size", [8, 80, 176])
def test_octets_of_rows_are_multiplied_weighed_and_added_up(
    heads: int, narrow: bool, size: int
) -> None:
    """By vectors and one number at a time: rows behind an octet's last one count for nothing."""
    from kernels.cpu.vector_octets import LANES, add_octets, dot_octets
    from kernels.cpu.vector_softmax import LEAST, SCORES_AT_ONCE, weigh_scores

    def attend_by(lanes: int) -> Any:
        @numba.njit
        def attend(keys, values, listed, span, query, scores, tops, totals, fades, mixed):  # type: ignore[no-untyped-def]
            later = (keys, listed[0])
            dot_octets(keys, listed, span, later, query, scores, lanes)
            found = scores.copy()
            weigh_scores(scores, tops, totals, fades)
            add_octets(values, listed, span, later, scores, fades, mixed, lanes)
            return found

        return attend

    generator = np.random.default_rng(size + heads)
    keys, values = generator.standard_normal((2, 30, size)).astype(np.float32)
    query = generator.standard_normal((heads, size)).astype(np.float32)
    patterns = [(rows.view(np.uint32) >> 16).astype(np.uint16) for rows in (keys, values)]
    if narrow:
        keys, values = ((rows.astype(np.uint32) << 16).view(np.float32) for rows in patterns)
    lines, counts = [0, 19, 3, 11], [8, 8, 5, 1]
    wanted = [2**heads - 1] * 3 + [1]  # by the first head only
    listed = np.array([lines, counts, wanted], np.int64)
    scores = np.full((heads, SCORES_AT_ONCE + 3), -np.inf, np.float32)
    tops, totals = np.full(heads, -1.0, np.float32), np.full(heads, 2.0, np.float32)
    fades, mixed = np.empty(heads, np.float32), np.ones((heads, size), np.float32)
    tops[-1] = LEAST
    before = tops.copy()
    rows = patterns if narrow else (keys, values)
    for lanes in (LANES, 1) if size % LANES == 0 else (1,):
        copies = [array.copy() for array in (scores, tops, totals, fades, mixed)]
        found = attend_by(lanes)(*rows, listed, (1, 4), query, *copies)
        expected = np.full((heads, 24), -np.inf, np.float64)
        for k, (line, count, bits) in enumerate(
            zip(lines[1:], counts[1:], wanted[1:], strict=True)
        ):
            for head in range(heads):
                if bits >> head & 1:
                    some = keys[line : line + count].astype(np.float64) @ query[head]
                    expected[head, 8 * k : 8 * k + count] = some
        np.testing.assert_allclose(found[:, :24], expected, rtol=1e-5, atol=1e-5)
        weights, new_tops, new_totals, new_fades, new_mixed = copies
        highest = np.maximum(before, expected.max(-1))
        np.testing.assert_allclose(new_tops, highest, rtol=1e-5)
        np.testing.assert_allclose(new_fades, np.exp(before - highest), rtol=1e-4)
        shares = np.exp(expected - highest[:, None])
        np.testing.assert_allclose(weights[:, :24], shares, rtol=1e-4, atol=1e-30)
        np.testing.assert_allclose(new_totals, totals * new_fades + shares.sum(-1), rtol=1e-4)
        places = [
            line + min(k, count - 1)
            for line, count in zip(lines[1:], counts[1:], strict=True)
            for k in range(8)
        ]
        sums = new_fades[:, None] * mixed + shares @ values[places].astype(np.float64)
        np.testing.assert_allclose(new_mixed, sums, rtol=1e-4, atol=1e-4)


def test_a_nan_among_some_scores_is_not_lost() -> None:
    from kernels.cpu.vector_softmax import SCORES_AT_ONCE, weigh_scores

    @numba.njit
    def weighed(scores, tops, totals, fades):  # type: ignore[no-untyped-def]
        weigh_scores(scores, tops, totals, fades)

    scores = np.zeros((2, SCORES_AT_ONCE), np.float32)
    scores[1, 7] = np.nan
    tops, totals, fades = np.full((3, 2), -1.0, np.float32)
    weighed(scores, tops, totals, fades)
    assert totals[0] == pytest.approx(SCORES_AT_ONCE - np.exp(-1.0))
    assert np.isnan(totals[1])


def test_a_nan_among_the_scores_is_not_lost() -> None:
    from kernels.cpu.numba_softmax import largest, weigh

    scores = np.zeros((1, 40), np.float32)
    scores[0, 7] = np.nan
    assert np.isnan(from_python(weigh)(scores, 0, 0, 40, from_python(largest)(scores, 0, 0, 40)))


@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=70),
    share=st.sampled_from([0.1, 0.4, 0.5, 1.0]),
)
def test_what_the_best_leave_over_is_the_sum_of_the_others(
    weights: list[float], share: float
) -> None:
    from kernels.cpu.numba_helpers import outside_best

    best = max(1, int(np.ceil(share * len(weights) - 1e-9)))
    expected = sum(sorted(weights, reverse=True)[best:])
    assert from_python(outside_best)(np.array(weights, np.float32), share) == pytest.approx(
        expected, rel=1e-4
    )
