"""Small compiled functions against NumPy, on the bit patterns that matter."""

from __future__ import annotations

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
    from kernels.decode_layer.page_choice import LEAST, largest

    table = np.full((2, len(scores) + begin + 3), np.inf, np.float32)
    table[1, begin : begin + len(scores)] = scores
    found = from_python(largest)(table, 1, begin, begin + len(scores))
    assert found == max(LEAST, np.float32(max(scores)))


def test_a_nan_among_the_scores_is_not_lost() -> None:
    from kernels.decode_layer.page_choice import largest, weigh

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
