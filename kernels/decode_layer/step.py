"""All layers of a decode step of a few rows in one compiled call, run by a team; in Numba.

Between two kernels, Python finds its own data gone from the caches that a layer's weights
went through, and the other threads fall asleep; so the loop over the layers is compiled
too, and all threads run it (``kernels/cpu/team.py``): each on a residual stream of its own, with
the same numbers, and what takes long is shared out. The arrays of all layers come as tables of
addresses: the compiled code then fits a model of any depth, and nothing is unpacked per layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.addresses import block_at, matrix_at, vector_at
from kernels.cpu.compiling import helper, kernel
from kernels.cpu.numba_helpers import copy_rows, norm_row, ticks_now
from kernels.cpu.team import from_first, join, meet
from kernels.decode_layer.attention import AttentionWeights, attention_rows
from kernels.decode_layer.head import head_rows
from kernels.decode_layer.mlp import MlpWeights, mlp_rows
from kernels.key_codes import OCTET
from kernels.page_attention.chosen_pages import CacheBlock, StepRows, most_pages
from kernels.page_attention.scratch import Sizes, floats_of, scratch_at

_CODES, _SCALES = np.empty(0, np.uint8), np.empty(0, np.uint16)  # for their types


class ModelTable(NamedTuple):
    """A model's weights."""

    # [L, 13, 3] int64, per layer the address, rows and columns of the arrays of AttentionWeights,
    # then of MlpWeights, in their order; vectors have one row.
    locations: Any
    final_norm: Any  # [C] float32
    # An array of the type of the layers' matrices: float32, bfloat16 as uint16 bit patterns, or
    # uint8 for quantised ones.
    like: Any
    head: Any  # [V, C] if ``head_out_major``, else [C, V]; of that type, or int8 where it is uint8
    head_out_major: bool
    out_major: bool  # as in AttentionWeights; the next three as in MlpWeights
    gelu: bool
    epsilon: Any
    blocks: int
    ropes: Any  # [L] int64, which of the step's ropes is the layer's
    middle: Any  # [2] int64, layers after which the residual stream is kept
    widths: Any  # [2] int64, of queries, keys and values together, and I; the most of any layer


class CacheTable(NamedTuple):
    """A KV cache."""

    # [L, 2, 4] int64, per layer the addresses of keys, values, codes and scales of the rows' own
    # block, then of the shared one.
    addresses: Any
    number: Any  # [1], of the keys' type, which need not be the weights'
    sizes: Any  # [2, 2] int64, of each of the two blocks, sequences and tokens each of them holds


@helper
def _attention_weights(locations, model, single):
    return AttentionWeights(
        vector_at(locations[0], single), matrix_at(locations[1], model.like),
        vector_at(locations[2], single), vector_at(locations[3], single),
        vector_at(locations[4], single), matrix_at(locations[5], model.like),
        vector_at(locations[6], single), vector_at(locations[7], single),
        model.out_major, model.epsilon,
    )  # fmt: skip


@helper
def _mlp_weights(locations, model, single):
    return MlpWeights(
        vector_at(locations[8], single), matrix_at(locations[9], model.like), model.blocks,
        matrix_at(locations[10], model.like), vector_at(locations[11], single),
        model.gelu, model.epsilon, vector_at(locations[12], single),
    )  # fmt: skip


@helper
def _block(addresses, sizes, rows, head_size, number):
    sequences, capacity = sizes
    tokens = sequences * rows.num_kv_heads * capacity
    octet_capacity = (capacity + OCTET - 1) // OCTET
    octets = sequences * rows.num_kv_heads * octet_capacity
    return CacheBlock(
        block_at(addresses[0], tokens, head_size, number),
        block_at(addresses[1], tokens, head_size, number),
        capacity,
        block_at(addresses[2], octets, 4 * head_size, _CODES),
        block_at(addresses[3], octets, 2 * OCTET, _SCALES),
        octet_capacity,
    )


@helper
def _sizes(hidden, model, rows, angles):
    (num_rows, channels), size, width = hidden.shape, angles.shape[3], model.widths[0]
    heads = width // size - 2 * rows.num_kv_heads
    pages = most_pages(rows.shared_tokens, rows.own_tokens, rows.page_size)
    page_size, inner = rows.page_size, model.widths[1]
    return Sizes(num_rows, heads, size, pages, page_size, channels, width, inner)


@kernel
def run_member(iteration, marks, arguments):
    """Parts [begin, end) of the step, by one member of a team: 2 n is layer n's attention, 2 n + 1
    its MLP, and after the last layer's come the final norm and the head. Only the first member
    writes what is not shared out.

    The arguments:
        parts: begin and end.
        streams: hidden [R, C] float32, changed, normed at the end; the kept ones [R, 2, C]
            and logits [R, V], overwritten.
        model: ModelTable.
        cache: CacheTable.
        rows: StepRows, but ``first_seen``, ``pages_kept`` and ``floors`` are [L, R].
        mlp: ``kept_channels`` and ``rounding`` of ``mlp_rows``; the former are [L, R] each.
        preview: of the head, see ``head_rows``.
        angles: [ropes, 2, R, D] float32, cosine and sine of each row's position.
        observed: concentration [R, L] float32, readers [R, L, Hkv, P] uint8 and tokens read [R, L]
            int64 of the layers, see ``attend_pages``; the streams [R, L, C] that enter them and
            their queries [R, L, H, D], float32; each [..., 0] where it is not asked for.
        ticks: [2 L + 1] int64, overwritten with what each part took by ``ticks_now``; or [0].
        tuning: Tuning; changes no number.
    """
    parts, streams, model, cache, rows, mlp, preview, angles, observed, ticks, tuning = arguments
    team = join(marks, iteration, tuning)
    if team.member < 0:
        return
    given, kept, logits = streams
    kept_channels, rounding = mlp
    concentration, readers, read, streams_of, queries = observed
    sizes = _sizes(given, model, rows, angles)
    first = team.member == 0
    memory = np.empty(floats_of(sizes) if first else 0, np.float32)
    scratch = scratch_at(from_first(team, memory.ctypes.data), sizes, given)
    hidden = given.copy()  # nobody writes to the given one before all have met
    before = ticks_now() if ticks.shape[0] > 0 else 0
    for part in range(parts[0], parts[1]):
        layer = part // 2
        if layer == model.locations.shape[0]:
            for row in range(hidden.shape[0]):
                norm_row(hidden[row], model.final_norm, model.epsilon, hidden[row])
            head_rows(hidden, model.head, model.head_out_major, preview, logits, team)
        elif part % 2 == 0:
            turned = angles[model.ropes[layer]]
            weights = _attention_weights(model.locations[layer], model, hidden)
            size = turned.shape[2]
            own = _block(cache.addresses[layer, 0], cache.sizes[0], rows, size, cache.number)
            shared = _block(cache.addresses[layer, 1], cache.sizes[1], rows, size, cache.number)
            limits = rows.first_seen[layer], rows.pages_kept[layer], rows.floors[layer]
            seen = StepRows(*limits, *rows[3:])
            pages = concentration[:, layer], readers[:, layer], read[:, layer]
            noted = pages, queries[:, layer], streams_of[:, layer]
            blocks = own, shared
            attention_rows(hidden, weights, blocks, seen, turned, noted, scratch, team)
        else:
            weights = _mlp_weights(model.locations[layer], model, hidden)
            kept_of_layer = kept_channels[0][layer], kept_channels[1][layer]
            mlp_rows(hidden, weights, kept_of_layer, rounding, scratch, team)
            for slot in range(2):
                if first and model.middle[slot] == layer:
                    copy_rows(hidden, kept[:, slot])
        if first and ticks.shape[0] > 0:
            now: int = ticks_now()
            ticks[part] = now - before
            before = now
    if first:
        copy_rows(hidden, given)
    meet(team)
    memory[:0] = 0  # kept until all are done with it
