"""The KV cache: an explicit object that steps pass in and out.

Rows may share one prefix. ``branch`` gives R rows per sequence whose cache starts
with the sequence's whole pages (stored once) and continues in memory of their own;
the few tokens past the last whole page are copied to each row, so that pages never
straddle the two. Page bounds (Quest's minimum and maximum key) are kept
incrementally: only pages written since the last compressed step are recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.page_attention import KVBlock, page_bounds
from sol_core.errors import ContextLengthError, ShapeError

if TYPE_CHECKING:
    from sol_core.models.spec import ModelSpec

__all__ = ["KVCache"]


@dataclass(slots=True)
class _LayerStore:
    """Buffers of one layer; ``clean_tokens``: the bounds of pages below it are current."""

    keys: Tensor  # [R, Hkv, capacity, D]
    values: Tensor
    page_min: Tensor | None = None  # [R, Hkv, capacity / page_size, D]
    page_max: Tensor | None = None
    clean_tokens: int = 0


class KVCache:
    """Keys and values of R rows, optionally behind prefixes that B sequences share.

    Attributes:
        spec: the model it belongs to.
        num_rows: R; rows r·R/B … (r+1)·R/B − 1 read shared sequence r.
        page_size: tokens per page.
        shared_lengths: per shared sequence, how many tokens (whole pages) its rows read.
        own_lengths: per row, tokens in its own memory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        num_rows: int,
        capacity: int,
        *,
        page_size: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.spec = spec
        self.num_rows = num_rows
        self.page_size = page_size
        self.capacity = -(-capacity // page_size) * page_size
        shape = (num_rows, spec.num_kv_heads, self.capacity, spec.head_size)
        self._layers = [
            _LayerStore(
                torch.zeros(shape, dtype=dtype, device=device),
                torch.zeros(shape, dtype=dtype, device=device),
            )
            for _ in range(spec.num_layers)
        ]
        self._shared: KVCache | None = None
        self.shared_lengths: list[int] = []
        self.own_lengths = [0] * num_rows

    @property
    def lengths(self) -> list[int]:
        """Cached tokens per row, the shared prefix included."""
        if self._shared is None:
            return list(self.own_lengths)
        per_sequence = self.num_rows // len(self.shared_lengths)
        return [
            self.shared_lengths[row // per_sequence] + own
            for row, own in enumerate(self.own_lengths)
        ]

    @property
    def dtype(self) -> torch.dtype:
        return self._layers[0].keys.dtype

    @property
    def device(self) -> torch.device:
        return self._layers[0].keys.device

    @property
    def shared_width(self) -> int:
        """Tokens of the longest shared prefix: where a row's own tokens start in a mask."""
        return max(self.shared_lengths, default=0)

    def nbytes(self) -> int:
        """Memory of this cache's own buffers, in bytes."""
        return sum(store.keys.nbytes + store.values.nbytes for store in self._layers)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store new tokens after each row's last, without counting them yet.

        Args:
            keys, values: [R, Hkv, T, D]; keys rotated. Call ``advance`` after all layers.
        Raises: ContextLengthError when they do not fit; ShapeError for ragged rows, T > 1.
        """
        store = self._layers[layer]
        count = keys.shape[2]
        self._check_room(count)
        start = self.own_lengths[0]
        if self._is_uniform():
            store.keys[:, :, start : start + count] = keys
            store.values[:, :, start : start + count] = values
        elif count == 1:
            rows = torch.arange(self.num_rows, device=self.device)
            slots = torch.tensor(self.own_lengths, device=self.device)
            store.keys[rows, :, slots] = keys[:, :, 0].to(self.dtype)
            store.values[rows, :, slots] = values[:, :, 0].to(self.dtype)
        else:
            raise ShapeError("rows of different lengths take one token at a time")

    def advance(self, counts: int | list[int]) -> None:
        """Count tokens written to every row (or to each row, a list)."""
        steps = [counts] * self.num_rows if isinstance(counts, int) else counts
        self.own_lengths = [own + n for own, n in zip(self.own_lengths, steps, strict=True)]

    def truncate(self, length: int) -> None:
        """Forget tokens past ``length`` in every row; the cache must not have a shared prefix."""
        if self._shared is not None:
            raise ShapeError("only a cache without a shared prefix can be truncated")
        self.own_lengths = [min(own, length) for own in self.own_lengths]
        for store in self._layers:
            store.clean_tokens = min(store.clean_tokens, length)

    def blocks(self, layer: int, pending: int, *, with_bounds: bool) -> list[KVBlock]:
        """The layer's keys in order, ``pending`` just-written tokens included.

        The last block is cut at the longest row; shorter rows are masked by the caller.
        """
        blocks = []
        if self._shared is not None:
            used = self.shared_width
            blocks.append(self._shared._block(layer, used, self._shared.own_lengths, with_bounds))
        ends = [own + pending for own in self.own_lengths]
        blocks.append(self._block(layer, max(ends), ends, with_bounds))
        return blocks

    def branch(
        self, rows_per_sequence: int, extra_capacity: int, lengths: list[int] | None = None
    ) -> KVCache:
        """A new cache whose rows continue this one's sequences.

        Args:
            rows_per_sequence: G rows for each of this cache's rows; with 1 the prefix is
                copied (nothing is shared, and one block is faster to attend to).
            extra_capacity: tokens each new row may add.
            lengths: branch after this many tokens of each sequence; default all.
        Returns: a cache of ``num_rows · G`` rows. This cache must outlive it and may
            only grow meanwhile.
        """
        if self._shared is not None:
            raise ShapeError("only a cache without a shared prefix can be branched")
        lengths = list(self.own_lengths) if lengths is None else lengths
        page = self.page_size
        shared = [0 if rows_per_sequence == 1 else n // page * page for n in lengths]
        tails = [n - s for n, s in zip(lengths, shared, strict=True)]
        child = KVCache(
            self.spec,
            self.num_rows * rows_per_sequence,
            max(tails) + extra_capacity,
            page_size=page,
            dtype=self.dtype,
            device=self.device,
        )
        if max(shared) > 0:
            child._shared = self
            child.shared_lengths = shared
        child.own_lengths = [tail for tail in tails for _ in range(rows_per_sequence)]
        for mine, theirs in zip(self._layers, child._layers, strict=True):
            for sequence, (start, tail) in enumerate(zip(shared, tails, strict=True)):
                rows = slice(sequence * rows_per_sequence, (sequence + 1) * rows_per_sequence)
                theirs.keys[rows, :, :tail] = mine.keys[sequence, :, start : start + tail]
                theirs.values[rows, :, :tail] = mine.values[sequence, :, start : start + tail]
        return child

    def _block(self, layer: int, used: int, ends: list[int], with_bounds: bool) -> KVBlock:
        """The first ``used`` tokens of every row; row r has written ``ends[r]``."""
        store = self._layers[layer]
        keys, values = store.keys[:, :, :used], store.values[:, :, :used]
        if not with_bounds:
            return KVBlock(keys, values)
        low, high = self._refresh_bounds(store, used, ends)
        pages = -(-used // self.page_size)
        return KVBlock(keys, values, low[:, :, :pages], high[:, :, :pages])

    def _refresh_bounds(
        self, store: _LayerStore, used: int, ends: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Recompute the bounds of pages written since the last call; return all of them."""
        if store.page_min is None or store.page_max is None:
            shape = list(store.keys.shape)
            shape[2] = self.capacity // self.page_size
            store.page_min = torch.full(shape, torch.inf, dtype=self.dtype, device=self.device)
            store.page_max = torch.full(shape, -torch.inf, dtype=self.dtype, device=self.device)
        first = store.clean_tokens // self.page_size
        start = first * self.page_size
        if used > start:
            valid = None
            if min(ends) < used:
                written = torch.tensor(ends, device=self.device)
                valid = torch.arange(start, used, device=self.device)[None] < written[:, None]
            low, high = page_bounds(store.keys[:, :, start:used], valid, self.page_size)
            store.page_min[:, :, first : first + low.shape[2]] = low
            store.page_max[:, :, first : first + high.shape[2]] = high
            # The page that the shortest row writes to next must be redone then.
            store.clean_tokens = min(used, *ends)
        return store.page_min, store.page_max

    def _is_uniform(self) -> bool:
        return min(self.own_lengths) == max(self.own_lengths)

    def _check_room(self, count: int) -> None:
        if max(self.own_lengths) + count > self.capacity:
            raise ContextLengthError(
                f"the KV cache holds {self.capacity} tokens per row; "
                f"{max(self.own_lengths)} are used and {count} more do not fit"
            )
