"""The KV cache: an explicit object that steps pass in and out.

Rows may share a prefix of whole pages (``branch``). The few tokens past it are copied to each row,
so no page straddles the two.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_tokens
from kernels.page_attention import KVBlock
from sol_core.card_errors import KEEPERS, retry_out_of_memory
from sol_core.errors import ContextLengthError, ShapeError
from sol_core.models.huge_pages import HugePages
from sol_core.models.spec import ModelSpec

POOLED_TOKENS = 256  # capacities of pooled stores are multiples of this
MOST_FREE = 4  # sets of stores kept, one per cache: a run's, its branch's, and the two before


@dataclass(slots=True, eq=False)
class LayerStore:
    """Keys, values and 4-bit copies of the keys of one layer: buffers of R rows."""

    keys: Tensor  # keys, values: [R, Hkv, capacity, D]
    values: Tensor
    codes: tuple[Tensor, Tensor] | None = None  # codes and scales, see ``encode_keys``

    def rows(self, part: slice) -> LayerStore:
        """Return a view of some rows."""
        codes = None if self.codes is None else (self.codes[0][part], self.codes[1][part])
        return LayerStore(self.keys[part], self.values[part], codes)

    @property
    def buffers(self) -> tuple[Tensor, ...]:
        """Return keys, values and, if present, codes and scales."""
        return (self.keys, self.values, *(self.codes or ()))

    def addresses(self) -> list[int]:
        """Return addresses of keys, values, codes and scales; the keys' twice without codes."""
        buffers = (self.keys, self.values, *(self.codes or (self.keys, self.keys)))
        return [buffer.data_ptr() for buffer in buffers]


class StorePool:
    """Reuses the stores of freed caches by size, so CUDA graphs find the same memory."""

    def __init__(self) -> None:
        self._free: list[tuple[Hashable, list[LayerStore]]] = []
        KEEPERS.add(self)

    def take(self, key: Hashable, make: Callable[[], list[LayerStore]]) -> list[LayerStore]:
        """Return zeroed stores: kept ones with this key, or new ones from ``make``."""
        for index in reversed(range(len(self._free))):
            if self._free[index][0] == key:
                _, stores = self._free.pop(index)
                for store in stores:
                    store.keys.zero_()
                    store.values.zero_()
                return stores
        return retry_out_of_memory(make)

    def give(self, key: Hashable, stores: list[LayerStore]) -> None:
        self._free.append((key, stores))
        del self._free[:-MOST_FREE]

    def clear(self) -> None:
        self._free.clear()


class KVCache:
    """Keys and values of R rows, optionally after prefixes that M groups of rows share."""

    def __init__(
        self,
        spec: ModelSpec,
        num_rows: int,
        capacity: int,
        *,
        page_size: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        pool: StorePool | None = None,
    ) -> None:
        """Make an empty cache; with a ``pool``, its memory comes from there and returns to it."""
        self.spec = spec  # its model's
        self.num_rows = num_rows  # R; rows m·R/M … (m+1)·R/M − 1 are group m
        self.page_size = page_size  # tokens per page
        self.dtype, self.device = dtype, torch.device(device)
        if pool is not None:
            capacity = -(-capacity // POOLED_TOKENS) * POOLED_TOKENS
        self.capacity = -(-capacity // page_size) * page_size
        shape = (num_rows, spec.num_kv_heads, self.capacity, spec.head_size)

        def make() -> list[LayerStore]:
            kinds = [(shape, dtype), (shape, dtype)]
            return [LayerStore(keys, values) for keys, values in self._zeros(*kinds)]

        self._pool = pool
        if pool is None:
            self.layers = make()
        else:
            key = (shape, dtype)
            self.layers = pool.take(key, make)
            weakref.finalize(self, pool.give, key, self.layers).atexit = False
        self._shared: KVCache | None = None
        self._sources: Tensor | None = None
        # Per row, tokens in the shared prefix and in its own memory.
        self.shared_lengths, self.own_lengths = [0] * num_rows, [0] * num_rows
        # Tokens whose 4-bit keys are current: in all rows, and by row (or empty). These keys are
        # made when a step first reads them.
        self._coded, self._coded_ends = 0, list[int]()
        # Results of ``addresses``, keyed by whether own and shared keys have 4-bit copies.
        self._addresses: dict[tuple[bool, bool], tuple[Any, Any]] = {}
        # Per row, the sequence of the shared prefix that it continues; 0 without a prefix.
        self.row_sources = [0] * num_rows

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the cache's own memory."""
        return sum(buffer.nbytes for store in self.layers for buffer in store.buffers)

    @property
    def lengths(self) -> list[int]:
        """Return the cached tokens per row, the shared prefix included."""
        return list(map(add, self.shared_lengths, self.own_lengths))

    @property
    def shared_width(self) -> int:
        """Return the longest shared prefix's tokens; in a mask, own tokens start there."""
        return max(self.shared_lengths, default=0)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store rotated keys and values [R, Hkv, T, D] after each row's last; see ``advance``."""
        self._check_room(keys.shape[2])
        if len(set(self.own_lengths)) > 1:
            raise ShapeError("rows of different lengths take one token at a time")
        self._coded_ends = []
        store, start = self.layers[layer], self.own_lengths[0]
        store.keys[:, :, start : start + keys.shape[2]] = keys
        store.values[:, :, start : start + keys.shape[2]] = values

    def advance(self, counts: int | list[int]) -> None:
        """Count tokens written to all rows; a list has a count per row."""
        steps = [counts] * self.num_rows if isinstance(counts, int) else counts
        self.own_lengths = list(map(add, self.own_lengths, steps))

    def truncate(self, length: int) -> None:
        """Drop tokens past ``length`` in every row; the cache must have no shared prefix."""
        if self._shared is not None:
            raise ShapeError("only a cache without a shared prefix can be truncated")
        self.own_lengths = [min(own, length) for own in self.own_lengths]
        self._coded, self._coded_ends = min(self._coded, length), []

    def blocks(
        self,
        layer: int,
        pending: int,
        *,
        codes: bool = False,  # with the 4-bit keys made by ``prepare_token_write``
        width: int | None = None,
    ) -> list[KVBlock]:
        """Return the layer's keys and values in order, with ``pending`` uncounted tokens."""
        blocks = []
        if self._shared is not None:
            block = self._shared._block(layer, self.shared_width, codes)
            blocks.append(dataclasses.replace(block, sources=self._sources))
        return [*blocks, self._block(layer, width or max(self.own_lengths) + pending, codes)]

    def keys(self, layer: int, row: int) -> Tensor:
        """Return a row's keys [Hkv, S, D], the token just written included."""
        own = self.layers[layer].keys[row, :, : self.own_lengths[row] + 1]
        if self._shared is None:
            return own
        before, count = self._shared.layers[layer], self.shared_lengths[row]
        return torch.cat((before.keys[self.row_sources[row], :, :count], own), 1)

    def prepare_token_write(self, *, reads_codes: bool) -> bool:
        """Prepare to write a token per row; return whether the step must encode its keys too."""
        self._check_room(1)
        if reads_codes:
            for cache in (self, self._shared):
                if cache is not None and cache._coded_ends != cache.own_lengths:
                    cache._encode()
        if self._coded_ends != self.own_lengths:
            self._coded_ends = []
            return False
        # Without the new tokens, because the step may fail.
        self._coded, self._coded_ends = min(self.own_lengths), [n + 1 for n in self.own_lengths]
        return True

    def addresses(self) -> tuple[Any, Any]:
        """Return ``LayerStore.addresses`` [L, 2, 4], own and shared; rows and capacities [2, 2]."""
        other = self if self._shared is None else self._shared
        # The last layer's codes are made last.
        coded = self.layers[-1].codes is not None, other.layers[-1].codes is not None
        if coded not in self._addresses:
            pairs = zip(self.layers, other.layers, strict=True)
            table = np.array([(own.addresses(), before.addresses()) for own, before in pairs])
            sizes = [(cache.num_rows, cache.capacity) for cache in (self, other)]
            self._addresses[coded] = table, np.array(sizes)
        return self._addresses[coded]

    def pages_in_order(self, values: Tensor) -> Tensor:
        """Reorder [R, L, P] from a step's blocks to each row's pages, oldest first, padded."""
        size, first_own = self.page_size, self.shared_width // self.page_size
        rows = []
        pairs = zip(self.shared_lengths, self.own_lengths, strict=True)
        for row, (shared, own) in enumerate(pairs):
            mine = values[row, :, first_own:][:, : own // size + 1]
            pieces = values[row, :, : shared // size], mine
            rows.append(torch.cat(pieces, -1).T)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)

    def layout(self) -> Hashable:
        """Return a key, equal for caches whose steps use the same memory in the same way."""
        known = self._sources
        sources = None if known is None else (known.data_ptr(), len(known))
        addresses, sizes = self.addresses()
        return self.dtype, self.page_size, sources, addresses.tobytes(), sizes.tobytes()

    def branch(
        self,
        rows_per_group: int,  # G
        extra_capacity: int,  # tokens that each new row may add
        lengths: list[int] | None = None,  # per group, tokens to branch after; default all
        sources: list[int] | None = None,  # per group, the sequence to continue
    ) -> KVCache:
        """Make a cache whose rows continue this one's sequences; this one must outlive it."""
        sources = list(range(self.num_rows)) if sources is None else sources
        lengths = [self.own_lengths[n] for n in sources] if lengths is None else lengths
        self._check_branch(sources, lengths)
        page = self.page_size
        alone = rows_per_group == 1 and len(set(sources)) == len(sources)
        shared = [0 if alone else n // page * page for n in lengths]
        tails = [n - s for n, s in zip(lengths, shared, strict=True)]
        child = self._empty(len(sources) * rows_per_group, max(tails) + extra_capacity)
        if max(shared) > 0:
            child._shared = self
            child.shared_lengths = [length for length in shared for _ in range(rows_per_group)]
            child.row_sources = [source for source in sources for _ in range(rows_per_group)]
            repeats = len(sources) // self.num_rows
            if sources != [row for row in range(self.num_rows) for _ in range(repeats)]:
                child._sources = torch.tensor(sources, device=self.device)
        child.own_lengths = [tail for tail in tails for _ in range(rows_per_group)]
        if alone:
            for row, (source, length) in enumerate(zip(sources, lengths, strict=True)):
                child._copy(row, 0, self, source, length)
        else:
            child._copy_tails(self, sources, shared, tails)
        return child

    @staticmethod
    def joined(caches: Sequence[KVCache], extra_capacity: int) -> KVCache:
        """Join several caches of one row, of any lengths, as the rows of one cache."""
        first, lengths = caches[0], [cache.own_lengths[0] for cache in caches]
        made = first._empty(len(caches), max(lengths) + extra_capacity)
        made.own_lengths = lengths
        for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
            made._copy(row, 0, cache, 0, length)
        return made

    def view(self, first: int, count: int, *, current_codes: bool) -> KVCache:
        """Return a view of some rows for one step; ``current_codes`` is what
        ``prepare_token_write`` returned for all rows."""
        part = slice(first, first + count)
        view = copy.copy(self)
        view.num_rows, view.row_sources = count, self.row_sources[part]
        view.shared_lengths, view.own_lengths = self.shared_lengths[part], self.own_lengths[part]
        view.layers = [store.rows(part) for store in self.layers]
        view._pool, view._addresses = None, {}
        view._coded_ends = list(view.own_lengths) if current_codes else []
        if self._shared is not None:
            view._sources = torch.tensor(view.row_sources, device=self.device)
        return view

    def copy_row(self, row: int) -> KVCache:
        """Copy a row to a separate cache, which can be branched."""
        shared, own = self.shared_lengths[row], self.own_lengths[row]
        copy = self._empty(1, shared + own)
        copy.own_lengths = [shared + own]
        if self._shared is not None:
            copy._copy(0, 0, self._shared, self.row_sources[row], shared)
        copy._copy(0, shared, self, row, own)
        return copy

    def copy_tokens(self, other: KVCache, count: int) -> None:
        """Copy the first tokens of another one-row cache into this empty one."""
        self._copy(0, 0, other, 0, count)
        self.own_lengths = [count]

    def _copy(self, row: int, start: int, cache: KVCache, source: int, count: int) -> None:
        """Copy the first ``count`` of another cache's own tokens to ``start`` and on."""
        for mine, theirs in zip(self.layers, cache.layers, strict=True):
            mine.keys[row, :, start : start + count] = theirs.keys[source, :, :count]
            mine.values[row, :, start : start + count] = theirs.values[source, :, :count]

    def _empty(self, num_rows: int, capacity: int) -> KVCache:
        return KVCache(
            self.spec,
            num_rows,
            capacity,
            page_size=self.page_size,
            dtype=self.dtype,
            device=self.device,
            pool=self._pool,
        )

    def _copy_tails(
        self, parent: KVCache, sources: list[int], starts: list[int], tails: list[int]
    ) -> None:
        width, groups = max(tails), len(sources)
        if width == 0:
            return
        which = torch.tensor(sources, device=self.device)[:, None]
        # Shorter tails copy tokens past their end, which are overwritten or masked.
        taken = torch.tensor(starts, device=self.device)[:, None]
        taken = (taken + torch.arange(width, device=self.device)).clamp_(max=parent.capacity - 1)
        for mine, theirs in zip(self.layers, parent.layers, strict=True):
            for new, old in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
                grouped = new.unflatten(0, (groups, -1))[:, :, :, :width]
                grouped.copy_(old[which, :, taken].transpose(1, 2)[:, None])

    def _check_branch(self, sources: list[int], lengths: list[int]) -> None:
        if self._shared is not None:
            raise ShapeError("only a cache without a shared prefix can be branched")
        if not sources or not all(0 <= n < self.num_rows for n in sources):
            raise ShapeError(
                f"sources must name at least one of the cache's {self.num_rows} sequences "
                f"(0 to {self.num_rows - 1}), got {sources}"
            )
        limits = [self.own_lengths[n] for n in sources]
        pairs = zip(lengths, limits, strict=False)
        if len(lengths) != len(limits) or not all(0 <= length <= most for length, most in pairs):
            raise ShapeError(
                f"branching needs one length per group, each within its sequence's {limits}, "
                f"got {lengths}"
            )

    def _block(self, layer: int, used: int, codes: bool) -> KVBlock:
        store = self.layers[layer]
        block = KVBlock(store.keys[:, :, :used], store.values[:, :, :used])
        if codes and store.codes is not None:
            octets = -(-used // OCTET)
            made, scales = (part[:, :, :octets] for part in store.codes)
            block = dataclasses.replace(block, codes=made, scales=scales)
        return block

    def _zeros(self, *kinds: tuple[Sequence[int], torch.dtype]) -> list[tuple[Tensor, ...]]:
        """Make zeros of these shapes for each layer; on a CPU, in one piece of memory."""
        layers = range(self.spec.num_layers)
        make: Callable[..., Tensor] = partial(torch.zeros, device=self.device)
        if self.device.type == "cpu":
            sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in kinds]
            make = HugePages(len(layers) * sum(sizes)).zeros
        return [tuple(make(shape, dtype=dtype) for shape, dtype in kinds) for _ in layers]

    def _encode(self) -> None:
        """Update the 4-bit keys of all layers."""
        if self.layers[0].codes is None:
            rows, heads, capacity, size = self.layers[0].keys.shape
            octets = (rows, heads, -(-capacity // OCTET))
            kinds = ((*octets, size // 8, 8, 4), torch.uint8), ((*octets, 2, 8), torch.bfloat16)
            for store, made in zip(self.layers, self._zeros(*kinds), strict=True):
                store.codes = made[0], made[1]
        start, end = self._coded, max(self.own_lengths)
        for store in self.layers if end > start else ():
            assert store.codes is not None
            encode_tokens(store.keys, *store.codes, start, end)
        self._coded, self._coded_ends = min(self.own_lengths), list(self.own_lengths)

    def _check_room(self, count: int) -> None:
        if max(self.own_lengths) + count > self.capacity:
            raise ContextLengthError(
                f"the KV cache holds {self.capacity} tokens per row; "
                f"{max(self.own_lengths)} are used and {count} more do not fit"
            )
