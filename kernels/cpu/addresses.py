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


def table_of(arrays: Any) -> Any:
    """[…, n, 3] int64: address, rows and columns of n arrays, or of nested lists of them; a vector
    is one row."""
    if isinstance(arrays, np.ndarray):
        rows = arrays.shape[0] if arrays.ndim == 2 else 1
        address = arrays.__array_interface__["data"][0]
        return np.array((address, rows, arrays.shape[-1]), np.int64)
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
    """The array at a location, as ``table_of`` has it."""
    return block_at(location[0], location[1], location[2], like)


@helper
def vector_at(location, like):
    """The vector at a location, as ``table_of`` has it."""
    return line_at(location[0], location[2], like)
