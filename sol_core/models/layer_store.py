"""Keys, values and page bounds of one layer of a KV cache.

Bounds are made when a compressed step first asks for them. After that, a step that finds
them current takes its new keys in; pages written otherwise (a prefill, a step on stale
bounds) are recomputed when they are next asked for, and only those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.kv_write import write_tokens
from kernels.page_attention import page_bounds

__all__ = ["LayerStore"]


class LayerStore:
    """Buffers of R rows.

    Attributes:
        keys, values: [R, Hkv, capacity, D].
        page_size: tokens per page; capacity is a multiple of it.
    """

    def __init__(self, keys: Tensor, values: Tensor, page_size: int) -> None:
        self.keys = keys
        self.values = values
        self.page_size = page_size
        self._bounds: tuple[Tensor, Tensor] | None = None
        self._clean_tokens = 0  # the bounds of whole pages below it are current
        self._bounded_ends: tuple[int, ...] = ()  # tokens per row when the bounds were current
        self._places: tuple[int, int, int, int] | None = None

    def write_stretch(self, keys: Tensor, values: Tensor, ends: list[int]) -> None:
        """Store [R, Hkv, T, D] after rows that all end at the same place."""
        start, count = ends[0], keys.shape[2]
        self.keys[:, :, start : start + count] = keys
        self.values[:, :, start : start + count] = values
        bounds = self._current_bounds(ends, count)
        if bounds is not None:
            (low, high), page = bounds, start // self.page_size
            stored = self.keys[:, :, start]
            torch.minimum(low[:, :, page], stored, out=low[:, :, page])
            torch.maximum(high[:, :, page], stored, out=high[:, :, page])

    def write_token(self, keys: Tensor, values: Tensor, ends: list[int], slots: Tensor) -> None:
        """Store [R, Hkv, D] at each row's slot; ``slots`` are ``ends`` as a tensor."""
        self.write_at(keys, values, slots, extend=self.take_token(ends))

    def write_at(self, keys: Tensor, values: Tensor, slots: Tensor, *, extend: bool) -> None:
        """Store [R, Hkv, D] at slots [R] int64; ``extend`` is what ``take_token`` returned."""
        bounds = self._bounds if extend else None
        write_tokens((keys, values), (self.keys, self.values), bounds, slots, self.page_size)

    def truncate(self, length: int) -> None:
        """Forget the bounds of everything from ``length`` on."""
        self._clean_tokens = min(self._clean_tokens, length)
        self._bounded_ends = ()
        if self._bounds is not None:
            low, high = self._bounds
            first = length // self.page_size
            low[:, :, first:] = torch.inf
            high[:, :, first:] = -torch.inf

    def bounds(self, ends: list[int]) -> tuple[Tensor, Tensor]:
        """Current page minima and maxima, [R, Hkv, capacity / page size, D] in the keys' dtype.

        Args:
            ends: tokens that each row has written.
        """
        if self._bounds is None:
            shape = list(self.keys.shape)
            shape[2] //= self.page_size
            low = torch.full(shape, torch.inf, dtype=self.keys.dtype, device=self.keys.device)
            self._bounds = (low, -low)
            self._places = None
        low, high = self._bounds
        if tuple(ends) == self._bounded_ends:
            return low, high
        first, used = self._clean_tokens // self.page_size, max(ends)
        start = first * self.page_size
        if used > start:
            valid = None
            if min(ends) < used:
                written = torch.tensor(ends, device=self.keys.device)
                places = torch.arange(start, used, device=self.keys.device)
                valid = places[None] < written[:, None]
            new_low, new_high = page_bounds(self.keys[:, :, start:used], valid, self.page_size)
            low[:, :, first : first + new_low.shape[2]] = new_low
            high[:, :, first : first + new_high.shape[2]] = new_high
        # The page that the shortest row writes to next must be redone then.
        self._clean_tokens = min(ends)
        self._bounded_ends = tuple(ends)
        return low, high

    def take_token(self, ends: list[int]) -> bool:
        """Before one token per row is written: whether the writer must extend the bounds.

        Args:
            ends: tokens that each row has written.
        """
        return self._current_bounds(ends, 1) is not None

    def places(self) -> tuple[int, int, int, int]:
        """Addresses of keys, values, page minima and maxima.

        Found once, and once more when there are bounds; until then keys stand in for them.
        """
        if self._places is None:
            low, high = (self.keys, self.keys) if self._bounds is None else self._bounds
            buffers = (self.keys, self.values, low, high)
            keys, values, lowest, highest = (buffer.data_ptr() for buffer in buffers)
            self._places = (keys, values, lowest, highest)
        return self._places

    def _current_bounds(self, ends: list[int], count: int) -> tuple[Tensor, Tensor] | None:
        """The bounds, if they are current and can take the ``count`` new tokens in."""
        if self._bounds is None:
            return None
        if count == 1 and self._bounded_ends == tuple(ends):
            self._bounded_ends = tuple(end + 1 for end in ends)
            self._clean_tokens = min(self._bounded_ends)
            return self._bounds
        self._clean_tokens = min(self._clean_tokens, *ends)
        self._bounded_ends = ()
        return None
