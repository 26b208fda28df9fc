"""Decode step of some rows on the CPU: one compiled call that skips what is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import Tuning, default_tuning, kernel_threads
from kernels.decode_layer import (
    DTYPES,
    HAS_TICKS,
    MOST_HEADS,
    few_row_kernel,
    lies_out_major,
    multiplies_quantised,
)
from kernels.linear import FEW_ROWS
from kernels.page_attention import mass_of_pages, mass_outside_of_row
from kernels.page_scorers import PageScorer
from kernels.quantised_weights import BYTES_4, BYTES_8, HEADER, pack_blocks
from sol_core.models.huge_pages import HugePages
from sol_core.models.rope import RotaryTable
from sol_core.models.signals import BEST_PAGES, Observe
from sol_core.models.spec import MatrixBytes, WeightBytes
from sol_core.models.step.layer import final_logits
from sol_core.models.step.output import StepOutput
from sol_core.models.step.plan import StepRequest, channel_limits, page_limits, pages_left_out

if TYPE_CHECKING:
    from kernels.decode_layer.step import CacheTable, ModelTable
    from kernels.page_attention.chosen_pages import StepRows
    from sol_core.models.cache import KVCache
    from sol_core.models.spec import ModelSpec
    from sol_core.models.step.clock import Part, StepClock
    from sol_core.models.weights import LayerWeights, Linear, ModelWeights


ROWS_AT_ONCE = 16  # more take as long by row, and more memory


class FewRowStep:
    """A model's weights as the kernel takes them."""

    def __init__(self, spec: ModelSpec, weights: ModelWeights, kernel: Callable[..., None]) -> None:
        self._spec, self._kernel = spec, kernel
        # The table holds addresses: these arrays must outlive it.
        # A pruned channel must be one row. 16-bit weights lie the other way, for the products of
        # many rows, so their gate and up are copied once a few rows are first decoded.
        in_major = all(layer.gate_up.weight.is_contiguous() for layer in weights.layers)
        packed = packed_weights(weights) if multiplies_quantised() else None
        self.quantised = packed is not None  # whether they are read as the blocks of a GGUF file
        self._blocks = 0 if in_major or packed else kernel_threads()
        if packed is None:
            pages = HugePages()
            matrices = [_unpacked_matrices(layer, self._blocks, pages) for layer in weights.layers]
            self._head, head_out_major = _matrix(weights.head)
            self._out_major = head_out_major, _matrix(weights.layers[0].attention_output)[1]
        else:
            matrices = [[as_array(matrix) for matrix in some] for some in packed[0]]
            self._head, self._out_major = as_array(packed[1]), (False, False)
        pairs = zip(weights.layers, matrices, strict=True)
        self._arrays = [_layer_arrays(layer, some) for layer, some in pairs]
        self.weight_bytes = _weight_bytes(self._arrays, self._head)
        self._windows = list(dict.fromkeys(spec.windows))
        self._spans = np.array([[window or spec.max_positions] for window in self._windows])
        self._lines = [_lines_of_layers(spec.windows, by_layer=some) for some in (False, True)]
        ropes = list(dict.fromkeys(spec.ropes))
        self._angles = RotaryTable(ropes, spec.head_size)
        self._scale = np.float32(spec.attention_scale)
        self._vocab_size = weights.head.weight.shape[1]
        self._table = self._model_table(weights, [ropes.index(rope) for rope in spec.ropes])

    @staticmethod
    def make(spec: ModelSpec, weights: ModelWeights) -> FewRowStep | None:
        """Return None for weights that the kernels cannot take, and where they cannot run."""
        head = weights.head.weight
        grouped = spec.num_heads // spec.num_kv_heads <= MOST_HEADS and spec.attention_cap is None
        stored = head.device.type == "cpu" and head.dtype in DTYPES and weights.head.bias is None
        fits = stored and grouped and lies_out_major(head) is not None
        if fits and all(_fits(layer, head.dtype, spec.head_size) for layer in weights.layers):
            kernel = few_row_kernel()
            return None if kernel is None else FewRowStep(spec, weights, kernel)
        return None

    def supports(self, cache: KVCache, request: StepRequest) -> bool:
        """Return whether the kernels can read and write this cache, and know these mechanisms."""
        # A row's action decides, not what is observed: its sums would be others.
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
        threads = kernel_threads()
        chosen = tuning or default_tuning(threads, quantised=self.quantised)
        chosen = Tuning(min(chosen.threads, threads), chosen.ahead)
        self._run(2 * spec.num_layers + 1, arguments, request.clock, chosen)
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
        """[R, num_layers] by a scorer without a kernel, from the step's queries [R, L, H, D]."""
        outside, size = torch.empty(queries.shape[:2]), cache.page_size
        for at, keys, first in self._attended(cache):
            by_head = mass_outside_of_row(queries[at], keys, size, first, scorer, BEST_PAGES)
            outside[at] = by_head.mean()
        return outside

    def _page_mass(self, cache: KVCache, queries: Tensor, readers: Tensor) -> Tensor:
        """[R, L, H, P], from the step's queries [R, L, H, D] and pages read [R, L, Hkv, P]."""
        mass, size = torch.zeros(*queries.shape[:3], readers.shape[3]), cache.page_size
        for at, keys, first in self._attended(cache):
            mass[at] = mass_of_pages(queries[at], keys, readers[at], size, first)
        return mass

    def _attended(self, cache: KVCache) -> Iterator[tuple[tuple[int, int], Tensor, int]]:
        """(Row, layer), keys [Hkv, S, D] and the first token seen, of every row and layer."""
        for row, length in enumerate(cache.lengths):
            for layer, window in enumerate(self._spec.windows):
                first = max(0, length + 1 - window) if window else 0
                yield (row, layer), cache.keys(layer, row), first

    def _run(
        self, parts: int, arguments: tuple[Any, ...], clock: StepClock | None, tuning: Tuning
    ) -> None:
        """A call a part, a seventh slower, only for a clock where nothing has ticks."""
        if clock is None:
            self._kernel((0, parts), *arguments, _NO_TICKS, tuning)
            return
        clock.lap("rest")
        if HAS_TICKS:
            ticks = np.empty(parts, np.int64)
            self._kernel((0, parts), *arguments, ticks, tuning)
            attention, mlp, head = ticks[0:-1:2].sum(), ticks[1::2].sum(), ticks[-1]
            clock.shared_lap({"attention": int(attention), "mlp": int(mlp), "head": int(head)})
            return
        for part in range(parts):
            self._kernel((part, part + 1), *arguments, _NO_TICKS, tuning)
            half: Part = "mlp" if part % 2 else "attention"
            clock.lap("head" if part == parts - 1 else half)

    def _model_table(self, weights: ModelWeights, ropes: list[int]) -> ModelTable:
        from kernels.cpu.addresses import table_of
        from kernels.decode_layer.step import ModelTable

        spec, int64 = self._spec, partial(np.array, dtype=np.int64)
        head_out_major, out_major = self._out_major
        return ModelTable(
            locations=table_of(self._arrays),
            final_norm=as_array(weights.final_norm),
            like=self._arrays[0][_GATE_UP][:1, :1],
            head=self._head,
            head_out_major=head_out_major,
            out_major=out_major,
            gelu=spec.activation == "gelu_tanh",
            epsilon=np.float32(spec.norm_eps),
            blocks=self._blocks,
            ropes=int64(ropes),
            middle=int64(spec.middle_layers),
            widths=int64([spec.query_width + 2 * spec.kv_width, spec.intermediate_size]),
        )

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
        # One array: making one takes longer than reading all of it.
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


_ALONE = 4  # lines of ``FewRowStep._plan`` before those of windows and layers


def _lines_of_layers(windows: Sequence[int | None], *, by_layer: bool) -> Any:
    """[4, L] int64: where ``_plan`` has each layer's first token, pages, input, inner channels."""
    known, layers = list(dict.fromkeys(windows)), np.arange(len(windows))
    of_windows = np.array([known.index(window) for window in windows])
    if by_layer:
        lines = ((of_windows, len(known)), *[(layers, len(layers))] * 3)
    else:
        lines = (*[(of_windows, len(known))] * 2, *[(0 * layers, 1)] * 2)
    firsts = np.cumsum((_ALONE, *(count for _, count in lines)))
    return np.stack([first + line for (line, _), first in zip(lines, firsts, strict=False)])


_MLP_NORM, _GATE_UP, _DOWN = 8, 9, 10  # of a layer's arrays
_NO_TICKS = np.empty(0, np.int64)
_NO_PREVIEW: tuple[Any, Any, Any] = (
    np.empty((0, 0), np.uint8),
    np.empty((0, 0), np.float32),
    np.empty((0, 0), np.uint8),
)
_ONE = {dtype: as_array(torch.empty(1, dtype=dtype)) for dtype in DTYPES}


def _weight_bytes(layers: Sequence[Sequence[Any]], head: Any) -> WeightBytes:
    def nbytes(first: int, end: int) -> float:
        return float(sum(array.nbytes for arrays in layers for array in arrays[first:end]))

    def matrix(array: Any, size: float, beside: float = 0.0) -> MatrixBytes:
        bits, headers = _STORAGE[array.dtype.name]
        return MatrixBytes(beside + size * headers, size * (1 - headers), bits)

    first = layers[0]
    return WeightBytes(
        # Its norms and biases are 0.1 % of it.
        attention=matrix(first[1], nbytes(0, _MLP_NORM)),
        gate_up=matrix(first[_GATE_UP], nbytes(_GATE_UP, _DOWN), nbytes(_MLP_NORM, _GATE_UP)),
        down=matrix(first[_DOWN], nbytes(_DOWN, _DOWN + 1), nbytes(_DOWN + 1, len(first))),
        head=matrix(head, float(head.nbytes)),
    )


# Bits of a weight, and the fraction of a matrix' bytes that are scales and minima, by array type.
_STORAGE = {
    "float32": (32, 0.0),
    "uint16": (16, 0.0),
    "uint8": (4, HEADER / BYTES_4),
    "int8": (8, HEADER / BYTES_8),
}


def _fits(layer: LayerWeights, dtype: torch.dtype, head_size: int) -> bool:
    """Return whether the kernels can address a layer's weights, and have its norms."""
    around, of_heads = (layer.attention_norm, layer.mlp_norm), (layer.query_norm, layer.key_norm)
    one_row = (layer.query_key_value, layer.attention_output, layer.down)
    layouts = {lies_out_major(linear.weight) for linear in one_row}
    return (
        all(norm is not None and norm.dtype == torch.float32 for norm in around)
        and all(norm is None or norm.shape[0] == head_size for norm in of_heads)
        and {linear.weight.dtype for linear in layer.matrices} == {dtype}
        and layouts in ({True}, {False})
        and layer.gate_up.bias is None
        and layer.down.bias is None
    )


def _unpacked_matrices(layer: LayerWeights, blocks: int, pages: HugePages) -> list[Any]:
    """Query, key and value, attention output, gate and up, and down."""
    from kernels.decode_layer.mlp import in_blocks

    mlp = [as_array(layer.gate_up.weight), as_array(layer.down.weight)]
    if blocks:
        cut = [in_blocks(matrix, blocks, sides) for matrix, sides in zip(mlp, (2, 1), strict=True)]
        mlp = [pages.copy(torch.from_numpy(matrix)).numpy() for matrix in cut]
    return [_matrix(layer.query_key_value)[0], _matrix(layer.attention_output)[0], *mlp]


def packed_weights(weights: ModelWeights) -> tuple[list[list[Tensor]], Tensor] | None:
    """Pack the matrices of every layer, and the head, as the few-row kernels take them."""
    pages = HugePages()
    head = _packed(weights.head, 8, pages)
    first = weights.layers[0].gate_up.blocks
    layers: list[list[Tensor]] = []
    for layer in weights.layers if head is not None else ():
        some = [_packed(linear, first.bits if first else 0, pages) for linear in layer.matrices]
        whole = [matrix for matrix in some if matrix is not None]
        # Gate and up are one matrix: up's first output must begin a tile.
        if len(whole) < len(some) or layer.gate_up.weight.shape[1] % 256:
            return None
        layers.append(whole)
    return None if head is None else (layers, head)


def _packed(linear: Linear, bits: int, pages: HugePages) -> Tensor | None:
    blocks = linear.blocks
    packed = None if blocks is None or blocks.bits != bits else pack_blocks(blocks)
    return None if packed is None else pages.copy(packed)


def _layer_arrays(layer: LayerWeights, matrices: Sequence[Any]) -> list[Any]:
    """The arrays of AttentionWeights, then of MlpWeights, in their order."""
    query_key_value, attention_output, gate_up, down = matrices
    return [
        _vector(layer.attention_norm),
        query_key_value,
        _vector(layer.query_key_value.bias),
        _vector(layer.query_norm),
        _vector(layer.key_norm),
        attention_output,
        _vector(layer.attention_output.bias),
        _vector(layer.attention_output_norm),
        _vector(layer.mlp_norm),
        gate_up,
        down,
        _vector(layer.mlp_output_norm),
        _vector(layer.down_norms),
    ]


def _matrix(linear: Linear) -> tuple[Any, bool]:
    """The weights as they lie in memory, and whether that is [out, in]."""
    out_major = bool(lies_out_major(linear.weight))
    return as_array(linear.weight.t() if out_major else linear.weight), out_major


def _vector(values: Tensor | None) -> Any:
    return (torch.empty(0) if values is None else values.float().contiguous()).numpy()
