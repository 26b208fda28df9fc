"""Choosing pages on CUDA by what they weigh (``triton_weighing.py``).

A KV group's pages are those above a threshold, a floor that needs no sorting;
``mass_outside_pages`` is what a policy observes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import find_threshold, float_of, only_if, ordered_bits
from kernels.key_codes.triton_kernel import INFINITY

SCORED_AT_ONCE = tl.constexpr(2048)  # masses that a program looks at together


@triton.jit
def is_chosen(keys, threshold):
    """Return whether each query [M, 1] chose each page [1, P]; keys [M, P] int32."""
    keys = keys.to(tl.uint32, bitcast=True)
    return (keys >= threshold) & (keys > 0)


@triton.jit
def group_weights(page_keys, member, page, members, num_pages):
    """Log masses of some pages for all heads of a group, [MEMBERS, N] fp32, −∞ where not valid."""
    there = (member < members)[:, None] & (page < num_pages)[None, :]
    at = page_keys + member[:, None] * num_pages + page[None, :]
    keys = tl.load(at, mask=there, other=0, cache_modifier=".cg").to(tl.uint32, bitcast=True)
    return tl.where(keys > 0, float_of(keys), -INFINITY)


@triton.jit
def choose_pages(
    index, row, page_keys, group_keys, pages_kept, floors, tokens_per_page, thresholds,
    tokens_read, readings, members, noting, num_pages, MEMBERS: tl.constexpr,
):  # fmt: skip
    """The pages that a KV group needs, as a threshold; see ``reference.select_needed``.

    A group weighs pages by the mean of its heads' softmax over pages.

    Args: of the group's ``index`` in [R, Hkv] and its row; the others as ``weigh_pages``.
    """
    member = tl.arange(0, MEMBERS)
    pages: tl.constexpr = SCORED_AT_ONCE // MEMBERS
    page_keys += index * members * num_pages
    group_keys += index * num_pages
    top = tl.full([MEMBERS], -INFINITY, tl.float32)
    total = tl.zeros([MEMBERS], tl.float32)
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        weights = group_weights(page_keys, member, page, members, num_pages)
        new_top = tl.maximum(top, tl.max(weights, 1))
        anchor = tl.where(new_top == -INFINITY, 0.0, new_top)
        total = total * tl.exp(top - anchor) + tl.sum(tl.exp(weights - anchor[:, None]), 1)
        top = new_top
    top, total = tl.where(total > 0, top, 0.0), tl.where(total > 0, total, 1.0)
    count, most = 0, 0.0
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        weights = group_weights(page_keys, member, page, members, num_pages)
        fractions = tl.sum(tl.exp(weights - top[:, None]) / total[:, None], 0) / members
        valid = tl.max(weights, 0) > -INFINITY
        keys = tl.where(valid, ordered_bits(fractions), 0).to(tl.int32, bitcast=True)
        tl.store(group_keys + page, keys, mask=page < num_pages)
        count += tl.sum(valid.to(tl.int32), 0)
        most = tl.maximum(most, tl.max(tl.where(valid, fractions, 0.0), 0))
    kept = tl.load(pages_kept + row)
    least = tl.minimum(tl.load(floors + row) / count, most)
    threshold = tl.where(kept >= count, 1, ordered_bits(least)).to(tl.uint32)
    tl.store(thresholds + index, threshold.to(tl.int32, bitcast=True))
    tl.debug_barrier()
    tokens = tl.zeros([pages], tl.int64)
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        inside = page < num_pages
        chosen = is_chosen(tl.load(group_keys + page, mask=inside, other=0), threshold)
        tokens += tl.load(tokens_per_page + row * num_pages + page, mask=chosen, other=0)
        noted = only_if(noting, inside)
        tl.store(readings + index * num_pages + page, chosen.to(tl.uint8), mask=noted)
    tl.store(tokens_read + index, tl.sum(tokens, 0))


@triton.jit(do_not_specialize=["best_fraction", "num_pages"])
def mass_outside_pages(page_keys, outside, best_fraction, num_pages, BLOCK_P: tl.constexpr):
    """Attention mass that the heaviest ``best_fraction`` of the pages leaves over.

    Args:
        page_keys: [R, H, num_pages] int32, logarithms of masses. outside: [R, H] fp32, written.
    """
    index = tl.program_id(0).to(tl.int64)
    page = tl.arange(0, BLOCK_P)
    keys = tl.load(page_keys + index * num_pages + page, mask=page < num_pages, other=0)
    keys = keys.to(tl.uint32, bitcast=True)
    valid = keys > 0
    weight = tl.where(valid, float_of(keys), -INFINITY)
    mass = tl.exp(weight - tl.max(weight, 0))
    total = tl.sum(mass, 0)
    best = tl.ceil(tl.sum(valid.to(tl.int32), 0).to(tl.float32) * best_fraction - 1e-9).to(tl.int32)
    # Masses are ≥ 0: their bits are in their order; + 1 keeps a vanished mass above 0.
    order = tl.where(valid, mass.to(tl.uint32, bitcast=True) + 1, 0)
    threshold, room = find_threshold(order, tl.maximum(best, 1))
    # From the order again: keeping the masses beside it would spill registers.
    below = tl.where(order < threshold, tl.maximum(order, 1) - 1, 0).to(tl.uint32)
    left_over = tl.sum(below.to(tl.float32, bitcast=True), 0)
    num_tied = tl.sum((order == threshold).to(tl.int32), 0) - room
    left_over += num_tied.to(tl.float32) * (threshold - 1).to(tl.uint32).to(
        tl.float32, bitcast=True
    )
    tl.store(outside + index, left_over / total)
