"""The places of the largest few numbers of a vector on the CPU, in Numba.

One pass finds the largest of every lane, lane j being the places j, W + j, 2 W + j and so on; a
place that is taken costs a look at the lanes and at the numbers of one of them.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper, kernel
from kernels.cpu.numba_helpers import in_order

_WIDTH = 1024  # lanes
_LEAST = np.int32(-(2**31))


@helper
def _largest_of_lanes(bits, tops):
    """tops [W] int32 = the largest of each lane, as ``in_order``."""
    for lane in range(_WIDTH):
        tops[lane] = _LEAST
    for begin in range(0, bits.shape[0], _WIDTH):
        for lane in range(min(_WIDTH, bits.shape[0] - begin)):
            tops[lane] = max(tops[lane], in_order(bits[np.uint64(begin + lane)]))


@helper
def _is_taken(place, places):
    taken = False
    for other in places:
        taken |= other == place
    return taken


@helper
def _first_left(bits, lane, top, places):
    """The first place of a lane with this number that is not among ``places``."""
    for place in range(lane, bits.shape[0], _WIDTH):
        if in_order(bits[place]) == top and not _is_taken(place, places):
            return place
    return bits.shape[0]


@helper
def _largest_left(bits, lane, places):
    """The largest of a lane without ``places``."""
    top = _LEAST
    for place in range(lane, bits.shape[0], _WIDTH):
        if not _is_taken(place, places):
            top = max(top, in_order(bits[place]))
    return top


@kernel("void(float32[::1], int64[::1])")
def top_places(values, places):
    """``places`` of the largest of [N] values, N at least as many: falling, of equals the first.

    −0 counts as less than +0.
    """
    bits, tops = values.view(np.int32), np.empty(_WIDTH, np.int32)
    _largest_of_lanes(bits, tops)
    for taken in range(places.shape[0]):
        top = _LEAST
        for lane in range(_WIDTH):
            top = max(top, tops[lane])
        first = bits.shape[0]
        for lane in range(_WIDTH):
            if tops[lane] == top:
                first = min(first, _first_left(bits, lane, top, places[:taken]))
        places[taken] = first
        tops[first % _WIDTH] = _largest_left(bits, first % _WIDTH, places[: taken + 1])
