"""A step of the online softmax over a few scores of several heads, in explicit vectors.

Milakov and Gimelshein, arXiv:1805.02867. LLVM's own vectors are made for long rows: of 32 scores
they took twice as long.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import emitted, fast_helper, helper
from kernels.cpu.numba_helpers import (
    EXP_LEAST,
    EXP_TERMS,
    LN_2,
    LOG2_E,
    exp_nonpositive,
    in_order,
    llvm_call,
)
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    INTEGERS,
    Matrix,
    constant,
    fused,
    line_of,
    load,
    prefetch,
    shuffle,
    splat,
    store,
    sum_each,
    vector,
)
from kernels.cpu.vector_octets import ROWS

SCORES_AT_ONCE = 32
LEAST = np.float32(-3e38)  # stands for no score at all
_LANES = 16
_BITS = ir.IntType(32)


@emitted()
def weigh_scores(builder, scores, tops, totals, fades):
    """Scores into weights e^(score − top), for every head.

    Args:
        scores: [V, ≥ 32] float32, the first 32 of each row changed; −inf for none. NaN becomes a
            weight that is NaN.
        tops: [V] float32, largest scores so far, at least ``LEAST``; changed.
        totals: [V] float32, sums of weights so far; changed.
        fades: [V] float32, overwritten with what older weights are now to be multiplied by.
    """
    matrix, lines = Matrix(scores), [line_of(line)[0] for line in (tops, totals, fades)]
    # No branch: one that is not foreseen took as long as the rest.
    with cgutils.for_range(builder, matrix.height) as heads:
        row = matrix.row(heads.index)
        columns = [INDEX(k) for k in range(0, SCORES_AT_ONCE, _LANES)]
        some = [load(builder, row, column, _LANES) for column in columns]
        top_at, total_at, fade_at = (builder.gep(line, [heads.index]) for line in lines)
        before = builder.load(top_at)
        top = largest_of(builder, some, before)
        fade = _exp_nonpositive(builder, builder.fsub(before, top), 1)
        builder.store(top, top_at)
        builder.store(fade, fade_at)
        spread = splat(builder, top, _LANES)
        weights = [_exp_nonpositive(builder, builder.fsub(x, spread), _LANES) for x in some]
        for column, numbers in zip(columns, weights, strict=True):
            store(builder, numbers, row, column, _LANES)
        total = builder.fmul(builder.load(total_at), fade)
        added = reduce(builder.fadd, weights)
        builder.store(builder.fadd(total, sum_of(builder, added)), total_at)


@emitted(types.float32, at=INTEGERS, count=types.int64, top=types.float32, later=INTEGERS)
def weigh_octets(builder, scores, at, count, top, masses, later):
    """masses[k] = Σ_t e^(scores[row, first + 8 k + t] − top), t below 8; returns their sum.

    Args:
        scores: [V, ≥ first + 8 · count] float32; NaN becomes a mass that is NaN.
        at: int64 row and first.
        count: int64.
        top: float32, no score is above it.
        masses: [≥ count] float32, overwritten.
        later: int64 address, and bytes from each line to the next: one an octet is prefetched.
    """
    row, first = cgutils.unpack_tuple(builder, at.value)
    start = builder.gep(Matrix(scores).row(row), [first])
    out, _ = line_of(masses)
    address, step = cgutils.unpack_tuple(builder, later.value)
    total = cgutils.alloca_once_value(builder, FLOAT(0.0))

    def weights(octet: Any, lanes: int) -> Any:
        some = load(builder, start, builder.mul(octet, INDEX(ROWS)), lanes)
        below = builder.fsub(some, splat(builder, top.value, lanes))
        return _exp_nonpositive(builder, below, lanes)

    def add(sums: Any) -> None:
        builder.store(builder.fadd(builder.load(total), sum_of(builder, sums)), total)

    whole = builder.and_(count.value, INDEX(-ROWS))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(ROWS)) as (begin, _):
        for k in range(ROWS):
            line = builder.add(address, builder.mul(builder.add(begin, INDEX(k)), step))
            prefetch(builder, builder.inttoptr(line, cgutils.voidptr_t))
        octets = []
        for k in range(0, ROWS, 2):
            both = weights(builder.add(begin, INDEX(k)), _LANES)
            for lane in (0, ROWS):
                octets.append(shuffle(builder, both, both, list(range(lane, lane + ROWS))))
        sums = sum_each(builder, octets)
        store(builder, sums, out, begin, ROWS)
        add(sums)
    with cgutils.for_range_slice(builder, whole, count.value, INDEX(1)) as (octet, _):
        numbers = weights(octet, ROWS)
        builder.store(sum_of(builder, numbers), builder.gep(out, [octet]))
        add(numbers)
    return builder.load(total)


def largest_of(builder: Any, some: list[Any], least: Any) -> Any:
    """Largest number of several vectors, at least ``least``; with NaN among them, any of them."""

    def larger(left: Any, right: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", left, right), left, right)

    top = reduce(larger, some)
    lanes = _LANES
    while lanes > 2:
        lanes //= 2
        low, high = (
            shuffle(builder, top, top, list(range(begin, begin + lanes))) for begin in (0, lanes)
        )
        top = larger(low, high)
    last = [builder.extract_element(top, _BITS(k)) for k in range(2)]
    return larger(larger(*last), least)


def sum_of(builder: Any, numbers: Any) -> Any:
    """Sum of a vector's numbers, in any order."""
    name = f"llvm.vector.reduce.fadd.v{numbers.type.count}f32"
    return llvm_call(builder, name, FLOAT, [FLOAT(-0.0), numbers], ("reassoc",))


def _exp_nonpositive(builder: Any, x: Any, lanes: int) -> Any:
    """``numba_helpers.exp_nonpositive`` of so many numbers at once."""
    kind, whole = vector(FLOAT, lanes), vector(_BITS, lanes)
    number, integer = partial(constant, FLOAT, lanes), partial(constant, _BITS, lanes)
    below = builder.fcmp_ordered("<", x, number(EXP_LEAST))
    scaled = builder.fmul(builder.select(below, number(EXP_LEAST), x), number(LOG2_E))
    power = builder.fptosi(builder.fsub(scaled, number(0.5)), whole)
    rounded = builder.sitofp(power, kind)
    rest = fused(builder, rounded, number(LN_2[1]), fused(builder, rounded, number(-LN_2[0]), x))
    value = number(EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        value = fused(builder, value, rest, number(term))
    value = builder.fadd(fused(builder, builder.fmul(value, rest), rest, rest), number(1.0))
    bits = builder.shl(builder.add(power, integer(127)), integer(23))
    value = builder.fmul(value, builder.bitcast(bits, kind))
    return builder.select(below, number(0.0), value)


@helper
def largest(scores, head, begin, end):
    """The largest of one head's scores [H, n], at least ``LEAST``. Positive NaN is above all and
    ``weigh`` hands it on.

    Compared as integers in their order: LLVM makes no vectors of the maximum of floats that Numba
    writes, and took up to 17 times as long.
    """
    top = in_order(np.float32(LEAST).view(np.int32))
    for i in range(np.uint64(begin), np.uint64(end)):
        top = max(top, in_order(np.float32(scores[head, i]).view(np.int32)))
    return np.int32(in_order(top)).view(np.float32)


@fast_helper
def weigh(scores, head, begin, end, top):
    """e^(score − top) of one head's scores [H, n], in place; returns the sum.

    Indices instead of slices: a slice counts references, which took longer than the sum.
    Unsigned, for Numba counts negative ones from the end, which no vector can.
    """
    total = np.float32(0.0)
    for i in range(np.uint64(begin), np.uint64(end)):
        weight = exp_nonpositive(scores[head, i] - top)
        scores[head, i] = weight
        total += weight
    return total
