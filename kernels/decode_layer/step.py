"""All layers of a decode step of a few rows in one compiled call; in Numba.

Between two kernels, Python finds its own data gone from the caches that a layer's weights
went through, and the other threads fall asleep; so the loop over the layers is compiled
too. The arrays of all layers come as tables of addresses: the compiled code then fits a
model of any depth, and nothing is unpacked per layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from kernels.cpu.numba_helpers import ticks_now
from kernels.cpu.numba_rows import norm_row
from kernels.decode_layer.addresses import block_at, matrix_at, vector_at
from kernels.decode_layer.attention import AttentionWeights, CacheBlock, StepRows, attention_rows
from kernels.decode_layer.mlp import MlpWeights, mlp_rows
from kernels.decode_layer.products import product
from kernels.key_codes.reference import OCTET

__all__ = ["CacheTable", "ModelTable", "run_parts"]

_helper = numba.njit(nogil=True, error_model="numpy")
_CODES, _SCALES = np.empty(0, np.uint8), np.empty(0, np.uint16)  # for their types


class ModelTable(NamedTuple):
    """A model's weights.

    Attributes:
        places: [L, 14, 3] int64, per layer the address, rows and columns of the arrays of
            AttentionWeights, then of MlpWeights, in their order; vectors have one row.
        final_norm: [C] float32.
        one: an array of the type of the layers' matrices: float32, bfloat16 as uint16 bit
            patterns, or uint8 for quantised ones.
        head: [V, C] if ``head_out_major``, else [C, V]; of that type, or int8 where it is uint8.
        out_major, gelu, epsilon, blocks: as in the two.
        windows, ropes: [L] int64, which of the step's windows and ropes is the layer's.
        middle: [2] int64, layers after which the residual stream is kept.
    """

    places: Any
    final_norm: Any
    one: Any
    head: Any
    head_out_major: bool
    out_major: bool
    gelu: bool
    epsilon: Any
    blocks: int
    windows: Any
    ropes: Any
    middle: Any


class CacheTable(NamedTuple):
    """A KV cache.

    Attributes:
        places: [L, 2, 6] int64, per layer the addresses of keys, values, page minima and maxima,
            codes and scales of the rows' own block, then of the shared one.
        number: [1], of their type, which need not be the weights'.
        extend: [L] bool, as of StepRows.
        sizes: of each of the two blocks, sequences and tokens each of them holds.
    """

    places: Any
    number: Any
    extend: Any
    sizes: Any


@_helper
def _attention_weights(places, model, single):
    return AttentionWeights(
        vector_at(places[0], single),
        matrix_at(places[1], model.one),
        vector_at(places[2], single),
        vector_at(places[3], single),
        vector_at(places[4], single),
        matrix_at(places[5], model.one),
        vector_at(places[6], single),
        vector_at(places[7], single),
        model.out_major,
        model.epsilon,
    )


@_helper
def _mlp_weights(places, model, single):
    return MlpWeights(
        vector_at(places[8], single),
        matrix_at(places[9], model.one),
        model.blocks,
        matrix_at(places[10], model.one),
        model.out_major,
        vector_at(places[11], single),
        model.gelu,
        model.epsilon,
        matrix_at(places[12], model.one),
        vector_at(places[13], single),
    )


@_helper
def _block(places, sizes, rows, head_size, number):
    sequences, capacity = sizes
    tokens = sequences * rows.num_kv_heads * capacity
    pages = tokens // rows.page_size
    octet_capacity = (capacity + OCTET - 1) // OCTET
    octets = sequences * rows.num_kv_heads * octet_capacity
    return CacheBlock(
        block_at(places[0], tokens, head_size, number),
        block_at(places[1], tokens, head_size, number),
        block_at(places[2], pages, head_size, number),
        block_at(places[3], pages, head_size, number),
        capacity,
        capacity // rows.page_size,
        block_at(places[4], octets, 4 * head_size, _CODES),
        block_at(places[5], octets, 2 * OCTET, _SCALES),
        octet_capacity,
    )


@_helper
def _rows_of(rows, window, extend):
    """The rows as one layer sees them."""
    return StepRows(
        rows.sources,
        rows.shared_tokens,
        rows.own_tokens,
        rows.first_seen[window],
        rows.pages_kept[window],
        rows.page_size,
        rows.num_kv_heads,
        rows.scale,
        extend,
        rows.by_mass,
        rows.best_share,
        rows.tasks,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def run_parts(parts, streams, model, cache, rows, mlp, angles, observed, ticks):
    """Parts [begin, end) of the step: 2 n is layer n's attention, 2 n + 1 its MLP, and after
    the last layer's come the final norm and the head.

    Args:
        streams: hidden [R, C] float32, changed, normed at the end; the kept ones [R, 2, C]
            and logits [R, V], overwritten.
        model: ModelTable.
        cache: CacheTable.
        rows: StepRows, but ``first_seen`` and ``pages_kept`` are [windows, R], and
            ``extend`` means nothing.
        mlp: input channels and inner channels kept and bit widths [R] int64, and whether the
            MLP's inputs are quantised.
        angles: [ropes, 2, R, D] float32, cosine and sine of each row's position.
        observed: concentration [R, L] float32 and readers [R, L, P] uint8 of the layers, see
            ``attention_rows``.
        ticks: [2 L + 1] int64, overwritten with what each part took by ``ticks_now``; or [0].
    """
    hidden, kept, logits = streams
    channels_kept, inner_kept, bit_widths, at_input = mlp
    concentration, readers = observed
    before = ticks_now() if ticks.shape[0] > 0 else 0
    for part in range(parts[0], parts[1]):
        layer = part // 2
        if layer == model.places.shape[0]:
            for row in range(hidden.shape[0]):
                norm_row(hidden[row], model.final_norm, model.epsilon, hidden[row])
            product(hidden, model.head, model.head_out_major, logits, rows.tasks)
        elif part % 2 == 0:
            places = model.places[layer]
            turned = angles[model.ropes[layer]]
            size = turned.shape[2]
            weights = _attention_weights(places, model, hidden)
            own = _block(cache.places[layer, 0], cache.sizes[0], rows, size, cache.number)
            shared = _block(cache.places[layer, 1], cache.sizes[1], rows, size, cache.number)
            seen = _rows_of(rows, model.windows[layer], cache.extend[layer])
            blocks, noted = (own, shared), (concentration[:, layer], readers[:, layer])
            attention_rows(hidden, weights, blocks, seen, turned, noted[0], noted[1])
        else:
            weights = _mlp_weights(model.places[layer], model, hidden)
            kept_channels = (channels_kept, inner_kept)
            mlp_rows(hidden, weights, kept_channels, bit_widths, at_input, rows.tasks)
            for place in range(2):
                if model.middle[place] == layer:
                    kept[:, place] = hidden
        if ticks.shape[0] > 0:
            now: int = ticks_now()
            ticks[part] = now - before
            before = now
