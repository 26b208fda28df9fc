"""Allocates CPU memory in huge pages, because a step reads more than a TLB of 4 kB pages covers.

Unused memory is kept for the next cache, up to a limit, because on a virtual machine touching new
pages can take 2 s per gigabyte. The system may reclaim it meanwhile.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

HUGE_PAGE = 2 << 20  # bytes; of x86-64, and of ARM with pages of 4 kB
MOST_FREE = 256 << 20  # bytes kept for reuse
_LINE = 64  # bytes; alignment of tensors
_PIECE = 64 << 20


class HugePages:
    """Allocates CPU memory, in huge pages if the system has them.

    A piece is freed with its last tensor. Memory that is never written is never committed.
    """

    def __init__(self, piece: int = _PIECE) -> None:
        """Allocate ``piece`` bytes at once for several tensors; larger tensors get their own."""
        self._piece, self._left = piece, torch.empty(0, dtype=torch.uint8)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        size = math.prod(shape) * dtype.itemsize
        taken = -(-size // _LINE) * _LINE
        if taken > len(self._left):
            piece = _piece(max(taken, self._piece))
            if piece is None:
                return torch.zeros(shape, dtype=dtype)
            self._left = piece
        memory, self._left = self._left[:size], self._left[taken:]
        return memory.view(dtype).view(shape)

    def copy(self, tensor: Tensor) -> Tensor:
        """Copy a tensor; a transposed matrix keeps its layout."""
        if tensor.dim() == 2 and not tensor.is_contiguous():
            return self.copy(tensor.t().contiguous()).t()
        return self.zeros(tensor.shape, tensor.dtype).copy_(tensor)


_free: list[mmap.mmap] = []  # oldest first; finalizers change it at any time


def free_bytes() -> int:
    """Return the bytes that are kept for reuse."""
    return sum(len(area) - HUGE_PAGE for area in list(_free))


def _piece(size: int) -> Tensor | None:
    """Allocate [size] zeros, uint8; None if small, or without huge pages."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux only
    if advice is None or size < HUGE_PAGE:
        return None
    area, used = _kept(size), True
    if area is None:
        try:
            # Private, because shared mappings have a separate switch for huge pages.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            area, used = mmap.mmap(-1, size + HUGE_PAGE, flags=flags), False
            area.madvise(advice)
        except OSError:  # too large, or a system without huge pages
            return None
    view = (ctypes.c_char * len(area)).from_buffer(area)
    weakref.finalize(view, _give, area).atexit = False
    before = -ctypes.addressof(view) % HUGE_PAGE
    piece = torch.frombuffer(view, dtype=torch.uint8, count=size, offset=before)
    return piece.zero_() if used else piece


def _kept(size: int) -> mmap.mmap | None:
    """Take the smallest kept area that fits and wastes at most half of itself."""
    fits = [area for area in list(_free) if size <= len(area) - HUGE_PAGE <= 2 * size]
    for area in sorted(fits, key=len):
        try:
            _free.remove(area)
        except ValueError:  # another thread took it
            continue
        return area
    return None


def _give(area: mmap.mmap) -> None:
    try:
        area.madvise(mmap.MADV_FREE)  # the system may reclaim its pages
    except OSError:  # before Linux 4.5
        return
    _free.append(area)
    while free_bytes() > MOST_FREE:
        _free.pop(0)
