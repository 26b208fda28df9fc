"""All layers of a decode step of a few rows in one compiled call; in Numba.

Between two kernels, Python finds its own data gone from the caches that a layer's weights
went through, and the other threads fall asleep; so the loop over the layers is compiled
too. The arrays of all layers come as tables of addresses: the compiled code then fits a
model of any depth, and nothing is unpacked per layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from kernels.decode_layer.attention import AttentionWeights, CacheBlock, StepRows, attention_rows
from kernels.decode_layer.mlp import MlpWeights, mlp_rows

__all__ = ["CacheTable", "ModelTable", "run_halves"]

_helper = numba.njit(nogil=True, error_model="numpy")


class ModelTable(NamedTuple):
    """A model's weights.

    Attributes:
        places: [L, 12, 3] int64, per layer the address, rows and columns of the arrays of
            AttentionWeights, then of MlpWeights, in their order; vectors have one row.
        number: [1], of the matrices' type: float32, or bfloat16 as uint16 bit patterns.
        out_major, gelu, epsilon: as in the two.
        windows, ropes: [L] int64, which of the step's windows and ropes is the layer's.
        middle: [2] int64, layers after which the residual stream is kept.
    """

    places: Any
    number: Any
    out_major: bool
    gelu: bool
    epsilon: Any
    windows: Any
    ropes: Any
    middle: Any


class CacheTable(NamedTuple):
    """A KV cache.

    Attributes:
        places: [L, 2, 4] int64, per layer the addresses of keys, values, page minima and
            maxima of the rows' own block, then of the shared one.
        number: [1], of their type, which need not be the weights'.
        extend_bounds: [L] bool, whether to take the new keys into their pages' bounds.
        sizes: of each of the two blocks, sequences and tokens each of them holds.
    """

    places: Any
    number: Any
    extend_bounds: Any
    sizes: Any


@intrinsic
def _pointer(context, address):
    """An address as a pointer to nothing in particular."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@_helper
def _matrix(place, number):
    return carray(_pointer(place[0]), (place[1], place[2]), number.dtype)


@_helper
def _vector(place, number):
    return carray(_pointer(place[0]), (place[2],), number.dtype)


@_helper
def _attention_weights(places, model, single):
    return AttentionWeights(
        _vector(places[0], single),
        _matrix(places[1], model.number),
        _vector(places[2], single),
        _vector(places[3], single),
        _vector(places[4], single),
        _matrix(places[5], model.number),
        _vector(places[6], single),
        _vector(places[7], single),
        model.out_major,
        model.epsilon,
    )


@_helper
def _mlp_weights(places, model, single):
    return MlpWeights(
        _vector(places[8], single),
        _matrix(places[9], model.number),
        _matrix(places[10], model.number),
        model.out_major,
        _vector(places[11], single),
        model.gelu,
        model.epsilon,
    )


@_helper
def _block(places, sizes, rows, head_size, number):
    sequences, capacity = sizes
    tokens = sequences * rows.num_kv_heads * capacity
    pages = tokens // rows.page_size
    return CacheBlock(
        carray(_pointer(places[0]), (tokens, head_size), number.dtype),
        carray(_pointer(places[1]), (tokens, head_size), number.dtype),
        carray(_pointer(places[2]), (pages, head_size), number.dtype),
        carray(_pointer(places[3]), (pages, head_size), number.dtype),
        capacity,
        capacity // rows.page_size,
    )


@_helper
def _rows_of(rows, window, extend_bounds):
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
        extend_bounds,
        rows.best_share,
        rows.tasks,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def run_halves(halves, streams, model, cache, rows, mlp, angles, outside):
    """Halves [begin, end) of the layers: 2 n is layer n's attention, 2 n + 1 its MLP.

    Args:
        streams: hidden [R, C] float32, changed, and the kept ones [R, 2, C], overwritten.
        model: ModelTable.
        cache: CacheTable.
        rows: StepRows, but ``first_seen`` and ``pages_kept`` are [windows, R], and
            ``extend_bounds`` means nothing.
        mlp: channels kept and bit widths [R] int64, and whether the MLP's inputs are
            quantised.
        angles: [ropes, 2, R, D] float32, cosine and sine of each row's position.
        outside: [L, R, H] float32, see ``attention_rows``.
    """
    hidden, kept = streams
    channels_kept, bit_widths, at_input = mlp
    for half in range(halves[0], halves[1]):
        layer = half // 2
        places = model.places[layer]
        if half % 2 == 0:
            turned = angles[model.ropes[layer]]
            size = turned.shape[2]
            weights = _attention_weights(places, model, hidden)
            own = _block(cache.places[layer, 0], cache.sizes[0], rows, size, cache.number)
            shared = _block(cache.places[layer, 1], cache.sizes[1], rows, size, cache.number)
            seen = _rows_of(rows, model.windows[layer], cache.extend_bounds[layer])
            attention_rows(hidden, weights, (own, shared), seen, turned, outside[layer])
        else:
            weights = _mlp_weights(places, model, hidden)
            mlp_rows(hidden, weights, channels_kept, bit_widths, at_input, rows.tasks)
            for place in range(2):
                if model.middle[place] == layer:
                    kept[:, place] = hidden
