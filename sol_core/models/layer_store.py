"""Keys, values, page bounds and 4-bit copies of the keys of one layer of a KV cache.

Bounds and copies are made when a step first needs them; later only what was written since.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys
from kernels.kv_write import NewTokens, rotate_and_write, write_tokens
from kernels.page_attention import page_bounds
from sol_core.card_errors import KEEPERS

if TYPE_CHECKING:
    from kernels.page_scorers import Summary

POOLED_TOKENS = 256  # capacities of pooled stores are multiples of this
MOST_FREE = 4  # sets of stores, of one cache each: a run's, its branch's, and as many before


class _Upkeep:
    """Reach of bounds, or copies, over the keys. Rows grow past ``clean``: writers leave it be."""

    def __init__(self) -> None:
        self.clean = 0  # what is made of all rows' tokens below it is current
        self.ends: tuple[int, ...] = ()  # tokens per row when all of it was current

    def reaches(self, ends: list[int]) -> bool:
        return self.ends == tuple(ends)

    def reach(self, ends: list[int]) -> None:
        # From the end of the shortest row on, tokens must be made anew then, or taken in.
        self.clean, self.ends = min(ends), tuple(ends)

    def takes(self, ends: list[int]) -> bool:
        """Before one token per row is written: whether the writer can and must take it in."""
        if not self.reaches(ends):
            return False
        self.reach([end + 1 for end in ends])
        return True

    def truncate(self, length: int) -> None:
        self.clean, self.ends = min(self.clean, length), ()


class LayerStore:
    """Buffers of R rows."""

    def __init__(self, keys: Tensor, values: Tensor, page_size: int) -> None:
        self.keys = keys  # keys, values: [R, Hkv, capacity, D]
        self.values = values
        self.page_size = page_size  # tokens per page; capacity is a multiple of it
        self._bounds: tuple[Tensor, Tensor] | None = None
        self._bounded = _Upkeep()
        self._codes: tuple[Tensor, Tensor] | None = None
        self._coded = _Upkeep()
        self._places: tuple[int, ...] | None = None

    def write_stretch(self, keys: Tensor, values: Tensor, ends: list[int]) -> None:
        """Store [R, Hkv, T, D] after rows that all end at the same place."""
        start, count = ends[0], keys.shape[2]
        self.keys[:, :, start : start + count] = keys
        self.values[:, :, start : start + count] = values
        if count == 1 and self._bounds is not None and self._bounded.takes(ends):
            (low, high), page = self._bounds, start // self.page_size
            stored = self.keys[:, :, start]
            torch.minimum(low[:, :, page], stored, out=low[:, :, page])
            torch.maximum(high[:, :, page], stored, out=high[:, :, page])

    def write_token(self, keys: Tensor, values: Tensor, ends: list[int], slots: Tensor) -> None:
        """Store [R, Hkv, D] at each row's slot; ``slots`` are ``ends`` as a tensor."""
        where = self._kept(self.take_token(ends))
        write_tokens((keys, values), (self.keys, self.values), slots=slots, **where)

    def rotate_and_write(self, new: NewTokens, slots: Tensor, *, extend: Summary | None) -> Tensor:
        """Store a token per row at slots [R] int64; ``extend`` is what ``take_token`` returned."""
        return rotate_and_write(new, (self.keys, self.values), slots=slots, **self._kept(extend))

    def _kept(self, extend: Summary | None) -> dict[str, Any]:
        """Arguments of a write for what the new token joins."""
        return {
            "bounds": self._bounds if extend == "bounds" else None,
            "page_size": self.page_size,
            "codes": self._codes if extend == "codes" else None,
        }

    def truncate(self, length: int) -> None:
        """Forget bounds and codes of everything from ``length`` on."""
        self._coded.truncate(length)
        self._bounded.truncate(length)
        if self._bounds is not None:
            low, high = self._bounds
            first = length // self.page_size
            low[:, :, first:] = torch.inf
            high[:, :, first:] = -torch.inf

    def bounds(self, ends: list[int]) -> tuple[Tensor, Tensor]:
        """Current page minima and maxima, [R, Hkv, capacity / page size, D] in the keys' dtype."""
        if self._bounds is None:
            shape = list(self.keys.shape)
            shape[2] //= self.page_size
            low = torch.full(shape, torch.inf, dtype=self.keys.dtype, device=self.keys.device)
            self._bounds = (low, -low)
            self._places = None
        low, high = self._bounds
        if self._bounded.reaches(ends):
            return low, high
        first, used = self._bounded.clean // self.page_size, max(ends)
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
        self._bounded.reach(ends)
        return low, high

    def codes(self, ends: list[int]) -> tuple[Tensor, Tensor]:
        """Current 4-bit keys and their scales [R, Hkv, capacity / 8, …], see ``encode_keys``."""
        if self._codes is None:
            rows, heads, capacity, size = self.keys.shape
            octets, device = (rows, heads, -(-capacity // OCTET)), self.keys.device
            self._codes = (
                torch.zeros((*octets, size // 8, 8, 4), dtype=torch.uint8, device=device),
                torch.zeros((*octets, 2, 8), dtype=torch.bfloat16, device=device),
            )
            self._places = None
        if self._coded.reaches(ends):
            return self._codes
        first, used = self._coded.clean // OCTET, max(ends)
        if used > self._coded.clean:
            keys = self.keys[:, :, first * OCTET : -(-used // OCTET) * OCTET]
            keys = torch.nn.functional.pad(keys, (0, 0, 0, -keys.shape[2] % OCTET))
            for kept, made in zip(self._codes, encode_keys(keys), strict=True):
                kept[:, :, first : first + made.shape[2]] = made
        self._coded.reach(ends)
        return self._codes

    def prepare(self, read: Summary, ends: list[int]) -> None:
        """Bring what a page scorer reads up to date."""
        if read == "codes":
            self.codes(ends)
        else:
            self.bounds(ends)

    def take_token(self, ends: list[int], read: Summary | None = None) -> Summary | None:
        """The one of the two that the writer of a token per row must extend; the other is left."""
        if read != "bounds" and self._coded.takes(ends):
            return "codes"
        return "bounds" if self._bounded.takes(ends) else None

    def places(self) -> tuple[int, ...]:
        """Addresses of keys, values, page minima and maxima, codes and scales."""
        if self._places is None:
            none = (self.keys, self.keys)
            buffers = (self.keys, self.values, *(self._bounds or none), *(self._codes or none))
            self._places = tuple(buffer.data_ptr() for buffer in buffers)
        return self._places


class StorePool:
    """Stores of caches that are gone, for the next of their sizes: CUDA graphs need the memory."""

    def __init__(self) -> None:
        self._free: list[tuple[Hashable, list[LayerStore]]] = []
        KEEPERS.add(self)

    def take(self, key: Hashable, make: Callable[[], list[LayerStore]]) -> list[LayerStore]:
        """Stores as new: kept ones of this key, or those that ``make`` returns."""
        for index in reversed(range(len(self._free))):
            if self._free[index][0] == key:
                _, stores = self._free.pop(index)
                for store in stores:
                    store.keys.zero_()
                    store.values.zero_()
                    store.truncate(0)
                return stores
        try:
            return make()
        except torch.OutOfMemoryError:
            self.clear()
            return make()

    def give(self, key: Hashable, stores: list[LayerStore]) -> None:
        self._free.append((key, stores))
        del self._free[:-MOST_FREE]

    def clear(self) -> None:
        self._free.clear()
