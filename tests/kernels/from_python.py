"""Calls, from tests, of functions that otherwise only compiled code calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["from_python"]


@cache
def from_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """A ``kernels.cpu.compiling.helper`` that Python can call."""
    import numba

    @numba.njit(nogil=True)
    def call(*arguments):  # type: ignore[no-untyped-def]
        return function(*arguments)

    called: Callable[..., Any] = call
    return called
