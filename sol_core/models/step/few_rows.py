"""Decodes a few rows on the CPU in one compiled call that skips what is dropped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import Tuning, default_tuning
from kernels.decode_layer import DTYPES, HAS_TICKS, few_row_kernel
from kernels.linear import FEW_ROWS
from kernels.page_attention import mass_of_pages, mass_outside_of_row
from kernels.page_scorers import PageScorer
from sol_core.models.rope import inverse_frequencies, rotary_angles
from sol_core.models.signals import BEST_PAGES, Observe
from sol_core.models.step.few_row_weights import KernelWeights, fits_kernels
from sol_core.models.step.layer import final_logits
from sol_core.models.step.output import StepOutput
from sol_core.models.step.plan import StepRequest, channel_limits, page_limits, pages_left_out

if TYPE_CHECKING:
    from kernels.decode_layer.step import CacheTable
    from kernels.page_attention.chosen_pages import StepRows
    from sol_core.models.cache import KVCache
    from sol_core.models.spec import ModelSpec, RopeSpec
    from sol_core.models.step.clock import Part, StepClock
    from sol_core.models.weights import ModelWeights

ROWS_AT_ONCE = 16  # more take as long per row, and more memory
_ALONE = 4  # lines of ``FewRowStep._plan`` before those by window and layer
_STRETCH, _MOST_STRETCHES = 256, 64  # positions per stretch; one takes 256 kB at D = 64
_NO_TICKS = np.empty(0, np.int64)
_NO_PREVIEW: tuple[Any, Any, Any] = (
    np.empty((0, 0), np.uint8),
    np.empty((0, 0), np.float32),
    np.empty((0, 0), np.uint8),
)
_ONE = {dtype: as_array(torch.empty(1, dtype=dtype)) for dtype in DTYPES}


class FewRowStep:
    """One model's compiled step, with the weights prepared for it."""

    def __init__(self, spec: ModelSpec, model: ModelWeights, kernel: Callable[..., None]) -> None:
        self._spec, self._kernel = spec, kernel
        weights = KernelWeights(spec, model)
        self.quantised, self.weight_bytes = weights.quantised, weights.nbytes
        self._arrays, self._table = weights.arrays, weights.table  # holds the arrays' addresses
        self._windows = list(dict.fromkeys(spec.windows))
        self._spans = np.array([[window or spec.max_positions] for window in self._windows])
        self._lines = [_lines_of_layers(spec.windows, by_layer=some) for some in (False, True)]
        self._angles = RotaryTable(list(dict.fromkeys(spec.ropes)), spec.head_size)
        self._scale = np.float32(spec.attention_scale)
        self._untuned = default_tuning(sys.maxsize, quantised=self.quantised)  # all threads
        self._vocab_size = model.head.weight.shape[1]

    @staticmethod
    def make(spec: ModelSpec, model: ModelWeights) -> FewRowStep | None:
        """Make the step; None if the kernels do not support the weights or cannot run."""
        kernel = few_row_kernel() if fits_kernels(spec, model) else None
        return None if kernel is None else FewRowStep(spec, model, kernel)

    def supports(self, cache: KVCache, request: StepRequest) -> bool:
        """Return whether the kernels support this cache and these mechanisms."""
        # Decided by actions, not observations, which must not change a row's sums.
        reads = request.kernels_choose or request.is_dense
        few = cache.num_rows <= FEW_ROWS or not request.batched
        return few and cache.dtype in DTYPES and reads and request.mechanisms.pruner.fused

    def run(
        self, hidden: Tensor, cache: KVCache, request: StepRequest, tuning: Tuning | None = None
    ) -> StepOutput:
        """Run one step; the cache is written but not advanced."""
        spec, num_rows, lengths = self._spec, hidden.shape[0], cache.lengths
        rows, mlp, memory = self._plan(cache, request)
        middle = np.empty((num_rows, 2, spec.hidden_size), np.float32)
        logits = np.empty((num_rows, self._vocab_size), np.float32)
        streams = (hidden.numpy(), middle, logits)
        angles, longest = self._angles.at(lengths), max(lengths) + 1
        record, per_layer = request.record, (num_rows, spec.num_layers)
        pages = -(-longest // cache.page_size) if record else 0
        concentration, read = np.zeros(per_layer, np.float32), np.empty(per_layer, np.int64)
        readers = np.zeros((*per_layer, spec.num_kv_heads, pages), np.uint8)
        streams_of = np.empty((*per_layer, spec.hidden_size * ("hidden" in record)), np.float32)
        concentrates = request.observe is Observe.CONCENTRATION
        seen_by_reference = concentrates and not request.kernels_choose
        keeps_queries = seen_by_reference or "attention" in record
        shape = (*per_layer, spec.num_heads, spec.head_size * keeps_queries)
        queries = np.empty(shape, np.float32)
        noted = concentration, readers, read, streams_of, queries
        head, head_rows = request.preview, np.zeros(num_rows, np.int64)
        previewed = np.array([head is not None and not a.is_dense for a in request.actions])
        preview = *(_NO_PREVIEW if head is None else head.arrays), previewed, head_rows
        arguments = streams, self._table, memory, rows, mlp, preview, angles, noted
        kinds = (self._table.like.dtype, self._table.head.dtype, cache.dtype)
        self._run(kinds, arguments, request.clock, tuning or self._untuned)
        outside, query, flags, layers = map(
            torch.from_numpy, (concentration, queries, readers, streams_of)
        )
        if seen_by_reference:
            outside = self._concentration(cache, query, request.mechanisms.scorer)
        return StepOutput(
            hidden,
            final_logits(torch.from_numpy(logits), spec),
            torch.from_numpy(read),
            outside if concentrates else None,
            torch.from_numpy(middle) if request.observe else None,
            flags.sum(2, dtype=torch.uint8) if "pages" in record else None,
            torch.cat((layers, hidden[:, None]), 1) if "hidden" in record else None,
            self._page_mass(cache, query, flags) if "attention" in record else None,
            None if head is None else torch.from_numpy(head_rows)[:, None],
        )

    def _concentration(self, cache: KVCache, queries: Tensor, scorer: PageScorer) -> Tensor:
        """Return [R, num_layers] by a scorer without a kernel, from queries [R, L, H, D]."""
        outside, size = torch.empty(queries.shape[:2]), cache.page_size
        for at, keys, first in self._attended(cache):
            by_head = mass_outside_of_row(queries[at], keys, size, first, scorer, BEST_PAGES)
            outside[at] = by_head.mean()
        return outside

    def _page_mass(self, cache: KVCache, queries: Tensor, readers: Tensor) -> Tensor:
        """Return [R, L, H, P] from queries [R, L, H, D] and pages read [R, L, Hkv, P]."""
        mass, size = torch.zeros(*queries.shape[:3], readers.shape[3]), cache.page_size
        for at, keys, first in self._attended(cache):
            mass[at] = mass_of_pages(queries[at], keys, readers[at], size, first)
        return mass

    def _attended(self, cache: KVCache) -> Iterator[tuple[tuple[int, int], Tensor, int]]:
        """Yield (row, layer), keys [Hkv, S, D] and the first visible token."""
        for row, length in enumerate(cache.lengths):
            for layer, window in enumerate(self._spec.windows):
                first = max(0, length + 1 - window) if window else 0
                yield (row, layer), cache.keys(layer, row), first

    def _run(
        self, kinds: Any, arguments: tuple[Any, ...], clock: StepClock | None, tuning: Tuning
    ) -> None:
        """Run the step in one call; if a clock lacks ticks, part by part, a seventh slower."""
        parts = 2 * self._spec.num_layers + 1
        if clock is None:
            self._kernel(kinds, ((0, parts), *arguments, _NO_TICKS, tuning))
            return
        clock.lap("rest")
        if HAS_TICKS:
            ticks = np.empty(parts, np.int64)
            self._kernel(kinds, ((0, parts), *arguments, ticks, tuning))
            attention, mlp, head = ticks[0:-1:2].sum(), ticks[1::2].sum(), ticks[-1]
            clock.shared_lap({"attention": int(attention), "mlp": int(mlp), "head": int(head)})
            return
        for part in range(parts):
            self._kernel(kinds, ((part, part + 1), *arguments, _NO_TICKS, tuning))
            half: Part = "mlp" if part % 2 else "attention"
            clock.lap("head" if part == parts - 1 else half)

    def _plan(self, cache: KVCache, request: StepRequest) -> tuple[StepRows, Any, CacheTable]:
        """Return the rows' limits and their MLP's, per layer, and the cache's addresses."""
        from kernels.decode_layer.step import CacheTable
        from kernels.page_attention.chosen_pages import StepRows

        own, lengths, actions = cache.own_lengths, cache.lengths, request.actions
        missing = np.empty((len(own), 0), np.uint8)
        if request.left_out is not None:
            missing = pages_left_out(cache, request.left_out)
        how, scores_pages = request.mechanisms, request.observe is Observe.CONCENTRATION
        first_seen = np.maximum(np.array(lengths) + 1 - self._spans, 0).tolist()
        windows = self._spec.windows if request.is_by_layer else self._windows
        budgets, floors = page_limits(cache, request, windows)
        channels, inner = channel_limits(self._spec, request)
        # One array, because creating arrays takes longer than filling them.
        alone = [cache.row_sources, cache.shared_lengths, own, [a.bit_width for a in actions]]
        numbers = np.array(alone + first_seen + budgets + channels + inner, np.int64)
        of_layers = numbers.take(self._lines[request.is_by_layer], 0)
        rows = StepRows(
            sources=numbers[0],
            shared_tokens=numbers[1],
            own_tokens=numbers[2],
            first_seen=of_layers[0],
            pages_kept=of_layers[1],
            floors=floors.repeat(self._spec.num_layers // len(floors), 0),
            page_size=cache.page_size,
            num_kv_heads=self._spec.num_kv_heads,
            scale=self._scale,
            extend=cache.prepare_token_write(reads_codes=request.reads_codes),
            best_fraction=BEST_PAGES if scores_pages and request.kernels_choose else 0.0,
            left_out=missing,
        )
        rounding = numbers[3], how.quant_site == "mlp_input", how.quant_block
        mlp = (of_layers[2], of_layers[3]), rounding
        addresses, sizes = cache.addresses()
        return rows, mlp, CacheTable(addresses, _ONE[cache.dtype], sizes)


def _lines_of_layers(windows: Sequence[int | None], *, by_layer: bool) -> Any:
    """Return [4, L] int64, ``_plan``'s lines of each layer's first token, pages and channels."""
    known, layers = list(dict.fromkeys(windows)), np.arange(len(windows))
    of_windows = np.array([known.index(window) for window in windows])
    if by_layer:
        lines = ((of_windows, len(known)), *[(layers, len(layers))] * 3)
    else:
        lines = (*[(of_windows, len(known))] * 2, *[(0 * layers, 1)] * 2)
    firsts = np.cumsum((_ALONE, *(count for _, count in lines)))
    return np.stack([first + line for (line, _), first in zip(lines, firsts, strict=False)])


class RotaryTable:
    """Caches rotary angles by stretches of positions, for steps of a few rows."""

    def __init__(self, ropes: Sequence[RopeSpec], head_size: int) -> None:
        device = torch.device("cpu")
        self._ropes = [
            (inverse_frequencies(rope, head_size, device), rope.amplitude) for rope in ropes
        ]
        self._stretches: dict[int, Any] = {}

    def at(self, positions: Sequence[int]) -> Any:
        """Return [N, 2, R, D] float32 numpy, cosine and sine of R positions per rope."""
        angles = []
        for position in positions:
            stretch, offset = divmod(position, _STRETCH)
            if stretch not in self._stretches:
                self._compute(stretch)
            angles.append(self._stretches[stretch][:, :, offset])
        return np.stack(angles, axis=2)

    def _compute(self, stretch: int) -> None:
        if len(self._stretches) == _MOST_STRETCHES:
            self._stretches.clear()
        positions = torch.arange(stretch * _STRETCH, (stretch + 1) * _STRETCH)
        angles = [
            torch.stack(rotary_angles(frequencies, positions, amplitude))
            for frequencies, amplitude in self._ropes
        ]
        self._stretches[stretch] = torch.stack(angles).numpy()
