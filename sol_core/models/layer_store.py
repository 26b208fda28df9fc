"""Keys, values and 4-bit copies of the keys of one layer of a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys
from kernels.kv_write import NewTokens, rotate_and_write
from sol_core.card_errors import KEEPERS

POOLED_TOKENS = 256  # capacities of pooled stores are multiples of this
MOST_FREE = 4  # sets of stores, of one cache each: a run's, its branch's, and as many before


class LayerStore:
    """Buffers of R rows."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys  # keys, values: [R, Hkv, capacity, D]
        self.values = values
        self.codes: tuple[Tensor, Tensor] | None = None  # and scales; see ``encode_keys``

    def write(self, keys: Tensor, values: Tensor, start: int) -> None:
        """Store [R, Hkv, T, D] after rows that all end at the same place."""
        self.keys[:, :, start : start + keys.shape[2]] = keys
        self.values[:, :, start : start + keys.shape[2]] = values

    def rotate_and_write(self, new: NewTokens, slots: Tensor, *, extend: bool) -> Tensor:
        """Store a token per row at slots [R] int64; ``extend``: among the codes, too.

        Returns: queries [R, H, D] fp32, rotated and scaled.
        """
        codes = self.codes if extend else None
        return rotate_and_write(new, (self.keys, self.values), slots, codes)

    def encode(self, start: int, end: int) -> None:
        """Make the codes of tokens ``start`` to ``end`` of every row."""
        if self.codes is None:
            rows, heads, capacity, size = self.keys.shape
            octets, device = (rows, heads, -(-capacity // OCTET)), self.keys.device
            self.codes = (
                torch.zeros((*octets, size // 8, 8, 4), dtype=torch.uint8, device=device),
                torch.zeros((*octets, 2, 8), dtype=torch.bfloat16, device=device),
            )
        if end > start:
            first = start // OCTET
            keys = self.keys[:, :, first * OCTET : -(-end // OCTET) * OCTET]
            keys = torch.nn.functional.pad(keys, (0, 0, 0, -keys.shape[2] % OCTET))
            for kept, made in zip(self.codes, encode_keys(keys), strict=True):
                kept[:, :, first : first + made.shape[2]] = made

    def places(self) -> list[int]:
        """Addresses of keys, values, codes and scales; of what is not there any."""
        buffers = (self.keys, self.values, *(self.codes or (self.keys, self.keys)))
        return [buffer.data_ptr() for buffer in buffers]


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
