"""Keys, values, page bounds and 4-bit copies of the keys of one layer of a KV cache.

Bounds are made when a compressed step first asks for them. After that, a step that finds
them current takes its new keys in; pages written otherwise (a prefill, a step on stale
bounds) are recomputed when they are next asked for, and only those. Copies are made alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys
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
        self._codes: tuple[Tensor, Tensor] | None = None
        self._coded_tokens = 0  # the codes of all rows' tokens below it are current
        self._places: tuple[int, ...] | None = None

    def write_stretch(self, keys: Tensor, values: Tensor, ends: list[int]) -> None:
        """Store [R, Hkv, T, D] after rows that all end at the same place."""
        start, count = ends[0], keys.shape[2]
        self._coded_tokens = min(self._coded_tokens, start)
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
        """Forget bounds and codes of everything from ``length`` on."""
        self._coded_tokens = min(self._coded_tokens, length)
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

    def codes(self, ends: list[int]) -> tuple[Tensor, Tensor]:
        """Current 4-bit keys and their scales [R, Hkv, capacity / 8, …], see ``encode_keys``.

        Args:
            ends: tokens that each row has written.
        """
        if self._codes is None:
            rows, heads, capacity, size = self.keys.shape
            octets, device = (rows, heads, -(-capacity // OCTET)), self.keys.device
            self._codes = (
                torch.zeros((*octets, size // 8, 8, 4), dtype=torch.uint8, device=device),
                torch.zeros((*octets, 2, 8), dtype=torch.bfloat16, device=device),
            )
            self._places = None
        first, used = self._coded_tokens // OCTET, max(ends)
        if used > self._coded_tokens:
            keys = self.keys[:, :, first * OCTET : -(-used // OCTET) * OCTET]
            keys = torch.nn.functional.pad(keys, (0, 0, 0, -keys.shape[2] % OCTET))
            for kept, made in zip(self._codes, encode_keys(keys), strict=True):
                kept[:, :, first : first + made.shape[2]] = made
        # What the shortest row writes next must be coded then.
        self._coded_tokens = min(ends)
        return self._codes

    def prepare(self, scorer: str, ends: list[int]) -> None:
        """Bring what a page scorer reads up to date: bounds for "quest", codes for "int4"."""
        if scorer == "int4":
            self.codes(ends)
        else:
            self.bounds(ends)

    def take_token(self, ends: list[int], scorer: str | None = None) -> bool:
        """Before one token per row is written: whether the writer must extend bounds or codes.

        Args:
            ends: tokens that each row has written.
            scorer: "int4" where the writer codes the keys, which were prepared; bounds are then
                left behind.
        """
        if scorer != "int4":
            return self._current_bounds(ends, 1) is not None
        self._coded_tokens = min(ends) + 1
        self._clean_tokens = min(self._clean_tokens, *ends)
        self._bounded_ends = ()
        return True

    def places(self) -> tuple[int, ...]:
        """Addresses of keys, values, page minima and maxima, codes and scales.

        Found once, and again when there are more of them; until then keys stand in.
        """
        if self._places is None:
            none = (self.keys, self.keys)
            buffers = (self.keys, self.values, *(self._bounds or none), *(self._codes or none))
            self._places = tuple(buffer.data_ptr() for buffer in buffers)
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
