"""A product of rows that may be rounded, as the MLP of a few rows makes it, for tests."""

from __future__ import annotations

from kernels.cpu.compiling import helper
from kernels.decode_layer.products import add_columns, list_rounded

__all__ = ["rounded_product"]


@helper
def rounded_product(inputs, steps, weight, outputs):  # type: ignore[no-untyped-def]  # compiled
    """``outputs`` [R, out] = ``inputs`` [R, in] times quantised weights."""
    add_columns(list_rounded(inputs, steps, weight), weight, 0, outputs, 4)
