"""Small compiled functions against NumPy, on the bit patterns that matter."""

import numpy as np
import pytest

from tests.kernels.from_python import from_python

numba = pytest.importorskip("numba")


@pytest.mark.parametrize("instruction", [True, False])
def test_every_finite_float16_is_widened_exactly(instruction, monkeypatch):
    from kernels.cpu import numba_helpers

    if instruction and not numba_helpers.cpu_has("f16c"):
        pytest.skip("the CPU has no instruction for it")
    monkeypatch.setattr(numba_helpers, "cpu_has", lambda feature: instruction)
    widened = numba.njit(numba_helpers.widen.__wrapped__(numba.types.int16))

    @numba.njit
    def widen_all(patterns):
        return np.array([widened(pattern) for pattern in patterns], np.float32)

    patterns = np.arange(2**16, dtype=np.uint16)
    patterns = patterns[np.isfinite(patterns.view(np.float16))]
    expected = patterns.view(np.float16).astype(np.float32)
    found = widen_all(patterns.view(np.int16))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


def test_a_nan_among_the_scores_is_not_lost():
    from kernels.cpu.vector_softmax import SCORES_AT_ONCE, largest, weigh, weigh_scores

    @numba.njit
    def weighed(scores, tops, totals, fades):
        weigh_scores(scores, tops, totals, fades)

    scores = np.zeros((2, SCORES_AT_ONCE), np.float32)
    scores[1, 7] = np.nan
    tops, totals, fades = np.full((3, 2), -1.0, np.float32)
    weighed(scores, tops, totals, fades)
    assert totals[0] == pytest.approx(SCORES_AT_ONCE - np.exp(-1.0))
    assert np.isnan(totals[1])
    more = np.zeros((1, 40), np.float32)
    more[0, 7] = np.nan
    assert np.isnan(from_python(weigh)(more, 0, 0, 40, from_python(largest)(more, 0, 0, 40)))
