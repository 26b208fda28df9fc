"""Arrays that compiled code finds by their addresses; in Numba.

Taking an array apart costs a call from Python about a microsecond once its data has left the
caches, so many of them come as one table. The caller that makes a table keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.np.numpy_support import carray

from kernels.cpu.compiling import emitted, helper


def location_of(array: Any) -> tuple[int, int, int]:
    """Address, rows and columns; a vector is one row."""
    rows = array.shape[0] if array.ndim == 2 else 1
    return array.__array_interface__["data"][0], rows, array.shape[-1]


def table_of(arrays: Any) -> Any:
    """[…, n, 3] int64: ``location_of`` of n arrays, or of nested lists of them."""
    if isinstance(arrays, np.ndarray):
        return np.array(location_of(arrays), np.int64)
    return np.stack([table_of(some) for some in arrays])


@emitted(types.voidptr, address=types.int64)
def _pointer(builder, address):
    """Cast int64 to void*."""
    return builder.inttoptr(address.value, cgutils.voidptr_t)


@helper
def block_at(address, rows, columns, like):
    """[rows, columns] of the type of the array ``like``."""
    return carray(_pointer(address), (rows, columns), like.dtype)


@helper
def line_at(address, count, like):
    """[count] of the type of the array ``like``."""
    return carray(_pointer(address), (count,), like.dtype)


@helper
def matrix_at(location, like):
    """The array of a ``location_of``."""
    return block_at(location[0], location[1], location[2], like)


@helper
def vector_at(location, like):
    """The vector of a ``location_of``."""
    return line_at(location[0], location[2], like)
