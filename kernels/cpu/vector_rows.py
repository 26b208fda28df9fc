"""Two inner loops in explicit vectors: rows added up, and rows multiplied with a vector.

Everything a decode step of few rows reads goes through one of them: weights that lie
in-channel-major and cached values are rows to add up, weights that lie out-channel-major
and cached keys are rows to multiply. They are written as LLVM vectors
because LLVM's own vectoriser gives up on eight rows of bfloat16: one core of an AVX2
machine read 4 GB/s then, and 18 with these; of fp32 15, and 24. A machine with narrower
or wider vectors gets the same loop split or joined. Cached rows are read by several heads
at once: a number is widened once for all of them, which is half of the work on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    Matrix,
    fused,
    line_of,
    load,
    prefetch,
    registers,
    shuffle,
    smaller,
    splat,
    store,
    vector,
)

ROWS_AT_ONCE = 8
STREAM_ROWS = 2
_STREAM_LANES = 16


@intrinsic
def stream_rows(context, matrix, rows, scales, at, out):
    """out[j] += Σ_k scales[first + k] · matrix[rows[first + k], offset + j], k below 2.

    Asks for two later rows meanwhile. The hardware does not foresee them, for
    each is short: two cores of an AVX-512 machine read 20 to 30 GB/s of a model's weights
    without asking, and 46 with it. More rows at once would save reading and writing ``out``,
    but memory answers few streams faster: with eight of them it gave a tenth less.

    Args:
        matrix: (array, offset): [X, Y] float32, or bfloat16 as uint16 bit patterns.
        rows: [n] int64.
        scales: [n] float32.
        at: first, int64, at most n − 2, and how many pairs later those are that it asks for.
        out: [J] float32, J ≤ Y − offset, changed.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, offset = cgutils.unpack_tuple(builder, args[0])
        weights = Matrix(target, builder, sig.args[0][0], array, offset)
        row_data, num_rows = line_of(target, builder, sig.args[1], args[1])
        scale_data, _ = line_of(target, builder, sig.args[2], args[2])
        out_data, length = line_of(target, builder, sig.args[4], args[4])
        first, ahead = cgutils.unpack_tuple(builder, args[3])
        places = _places(builder, first, STREAM_ROWS)

        def starts_at(places: list[Any]) -> list[Any]:
            return weights.starts([builder.load(builder.gep(row_data, [at])) for at in places])

        starts = starts_at(places)
        last = builder.sub(num_rows, INDEX(1))
        distance = builder.mul(ahead, INDEX(STREAM_ROWS))
        later = [builder.add(place, distance) for place in places]
        following = starts_at([smaller(builder, place, last) for place in later])
        factors = [builder.load(builder.gep(scale_data, [place])) for place in places]

        def add(begin: Any, end: Any, step: int, lanes: int) -> None:
            spread = [splat(builder, factor, lanes) for factor in factors]
            with cgutils.for_range_slice(builder, begin, end, INDEX(step)) as (block, _):
                for start in following:
                    prefetch(builder, builder.gep(start, [block]))
                for place in range(0, step, lanes):
                    j = builder.add(block, INDEX(place))
                    # One chain in the rows' order: rows that are added times 0 change no bit.
                    total = load(builder, out_data, j, lanes)
                    for start, factor in zip(starts, spread, strict=True):
                        total = fused(builder, factor, weights.load(start, j, lanes), total)
                    store(builder, total, out_data, j, lanes)

        line = weights.per_line
        whole = builder.and_(length, INDEX(-line))
        add(INDEX(0), whole, line, _STREAM_LANES)
        add(whole, length, 1, 1)
        return target.get_dummy_value()

    return types.void(matrix, rows, scales, at, out), generate


@intrinsic
def add_rows(context, matrix, line, count, scales, first, out):
    """out[v, j] += Σ_k scales[v, first + k] · matrix[line + min(k, count − 1), j], k below 8.

    Args:
        matrix: [X, D] float32, or bfloat16 as uint16 bit patterns.
        line, count: int64, count in 1 to 8.
        scales: [V, n] float32.
        first: int64, at most n − 8.
        out: [V, D] float32, changed.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights, scales, out = (Matrix.argument(target, builder, sig, args, k) for k in (0, 3, 5))
        starts = weights.starts(_neighbours(builder, args[1], args[2]))
        places = _places(builder, args[4])

        def together(v: Any, number: int) -> None:
            indices = [builder.add(v, INDEX(k)) for k in range(number)]
            lines = [out.row(index) for index in indices]
            factors = [
                [builder.load(builder.gep(scales.row(index), [place])) for place in places]
                for index in indices
            ]

            def add(begin: Any, end: Any, lanes: int) -> None:
                spread = [[splat(builder, one, lanes) for one in some] for some in factors]
                with cgutils.for_range_slice(builder, begin, end, INDEX(lanes)) as (j, _):
                    totals = [load(builder, line, j, lanes) for line in lines]
                    for k, start in enumerate(starts):
                        read = weights.load(start, j, lanes)
                        totals = [
                            fused(builder, some[k], read, total)
                            for some, total in zip(spread, totals, strict=True)
                        ]
                    for line, total in zip(lines, totals, strict=True):
                        store(builder, total, line, j, lanes)

            lanes = registers().lanes
            whole = builder.and_(out.width, INDEX(-lanes))
            add(INDEX(0), whole, lanes)
            add(whole, out.width, 1)

        _in_turns(builder, out.height, together)
        return target.get_dummy_value()

    return types.void(matrix, types.int64, types.int64, scales, types.int64, out), generate


@intrinsic
def dot_rows(context, matrix, line, count, wanted, vectors, first, out):
    """out[v, first + k] = Σ_d matrix[line + k, d] · vectors[v, d], k below 8.

    −inf from ``count`` on, whose rows are not read, and for vectors that are not wanted.

    Args:
        matrix: [X, D] float32, or bfloat16 as uint16 bit patterns.
        line, count: int64, count in 1 to 8.
        wanted: int64, bit v for vector v.
        vectors: [V, D] float32, V ≤ 64.
        first: int64, at most n − 8.
        out: [V, n] float32, changed.
    """
    number = types.int64
    signature = types.void(matrix, number, number, number, vectors, number, out)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights, vectors, out = (Matrix.argument(target, builder, sig, args, k) for k in (0, 4, 6))
        _dot(builder, [(weights, vectors)], args[1:4], out, args[5])
        return target.get_dummy_value()

    return signature, generate


@intrinsic
def dot_row_pairs(context, matrices, line, count, vectors, first, out):
    """out[v, first + k] = the sum of two ``dot_rows``, for all vectors; −inf from ``count`` on.

    Args:
        matrices: two [X, D].
        vectors: two [V, D] float32.
        first: int64, at most n − 8.
        out: [V, n] float32, changed.
    """
    signature = types.void(matrices, types.int64, types.int64, vectors, types.int64, out)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = zip(*(Matrix.two(target, builder, sig, args, k) for k in (0, 3)), strict=True)
        out = Matrix.argument(target, builder, sig, args, 5)
        _dot(builder, list(pairs), (args[1], args[2], INDEX(-1)), out, args[4])
        return target.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch_rows(context, matrix, line):
    """Ask for eight rows from ``line`` on to be brought into the cache.

    Args:
        matrix: [X, D], rows next to each other; the rows need not all be there.
        line: int64.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights = Matrix.argument(target, builder, sig, args, 0)
        weights.prefetch(args[1], builder.mul(weights.width, INDEX(ROWS_AT_ONCE)))
        return target.get_dummy_value()

    return types.void(matrix, types.int64), generate


@intrinsic
def prefetch_row(context, matrix, row):
    """Ask for matrix[row] to be brought into the cache; matrix [X, D], row int64."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights = Matrix.argument(target, builder, sig, args, 0)
        weights.prefetch(args[1], weights.width)
        return target.get_dummy_value()

    return types.void(matrix, types.int64), generate


def _dot(
    builder: Any, pairs: list[tuple[Matrix, Matrix]], rows: Any, out: Matrix, first: Any
) -> None:
    """Write the sum over pairs of a matrix' rows times vectors; ``rows`` are as ``dot_rows``'
    line, count and wanted."""
    line, count, wanted = rows
    neighbours = _neighbours(builder, line, count)
    factors = [(weights, weights.starts(neighbours), vectors) for weights, vectors in pairs]
    _, vectors = pairs[0]
    whole = builder.and_(vectors.width, INDEX(-registers().lanes))
    rest = builder.icmp_signed("<", whole, vectors.width)
    there = _first_lanes(builder, count)

    def together(v: Any, number: int) -> None:
        indices = [builder.add(v, INDEX(k)) for k in range(number)]

        def multiply(begin: Any, end: Any, lanes: int) -> list[list[Any]]:
            return _products(builder, factors, indices, (begin, end), lanes)

        def keep(index: Any, totals: Any) -> None:
            is_wanted = builder.trunc(builder.lshr(wanted, index), ir.IntType(1))
            seen = builder.and_(there, splat(builder, is_wanted, ROWS_AT_ONCE))
            nothing = ir.Constant(totals.type, [-math.inf] * ROWS_AT_ONCE)
            totals = builder.select(seen, totals, nothing)
            store(builder, totals, out.row(index), first, ROWS_AT_ONCE)

        sums = multiply(INDEX(0), whole, registers().lanes)
        eight = vector(FLOAT, ROWS_AT_ONCE)
        totals = [cgutils.alloca_once(builder, eight) for _ in sums]
        for total, some in zip(totals, sums, strict=True):
            builder.store(_sum_each(builder, some), total)
        with builder.if_then(rest, likely=False):
            for total, some in zip(totals, multiply(whole, vectors.width, 1), strict=True):
                more = builder.fadd(builder.load(total), _joined(builder, some))
                builder.store(more, total)
        for index, total in zip(indices, totals, strict=True):
            keep(index, builder.load(total))

    _in_turns(builder, vectors.height, together)


def _products(
    builder: Any,
    factors: list[tuple[Matrix, list[Any], Matrix]],
    indices: list[Any],
    span: Any,
    lanes: int,
) -> list[list[Any]]:
    """Of each vector and each of the matrices' rows, summed per lane over the columns of a span.

    Args:
        factors: matrices, where their rows start, and the vectors that they are multiplied with.
        indices: of the vectors.
    """
    zero = ir.Constant(vector(FLOAT, lanes), [0.0] * lanes if lanes > 1 else 0.0)
    sums = [[cgutils.alloca_once(builder, zero.type) for _ in range(ROWS_AT_ONCE)] for _ in indices]
    for total in itertools.chain(*sums):
        builder.store(zero, total)
    with cgutils.for_range_slice(builder, *span, INDEX(lanes)) as (d, _):
        for weights, starts, vectors in factors:
            numbers = [load(builder, vectors.row(index), d, lanes) for index in indices]
            for k, start in enumerate(starts):
                read = weights.load(start, d, lanes)
                for number, totals in zip(numbers, sums, strict=True):
                    total = fused(builder, number, read, builder.load(totals[k]))
                    builder.store(total, totals[k])
    return [[builder.load(total) for total in totals] for totals in sums]


def _in_turns(builder: Any, total: Any, emit: Callable[[Any, int], None]) -> None:
    """``emit(first, count)`` for all of ``total`` vectors, as many together as registers hold."""
    most = registers().vectors
    whole = builder.sub(total, builder.srem(total, INDEX(most)))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(most)) as (first, _):
        emit(first, most)
    for count in range(1, most):
        left = builder.icmp_signed("==", builder.sub(total, whole), INDEX(count))
        with builder.if_then(left):
            emit(whole, count)


def _neighbours(builder: Any, line: Any, count: Any) -> list[Any]:
    """Eight rows from ``line`` on, of which there are ``count``; the last one is repeated."""
    last = builder.sub(count, INDEX(1))
    return [
        builder.add(line, smaller(builder, INDEX(k), last) if k else INDEX(0))
        for k in range(ROWS_AT_ONCE)
    ]


def _first_lanes(builder: Any, count: Any) -> Any:
    """Return a mask of the eight lanes that lie below ``count``."""
    numbers = vector(INDEX, ROWS_AT_ONCE)
    order = ir.Constant(numbers, list(range(ROWS_AT_ONCE)))
    return builder.icmp_signed("<", order, splat(builder, count, ROWS_AT_ONCE))


def _places(builder: Any, first: Any, count: int = ROWS_AT_ONCE) -> list[Any]:
    return [builder.add(first, INDEX(k)) for k in range(count)]


def _sum_each(builder: Any, vectors: list[Any]) -> Any:
    """Eight vectors of eight or sixteen numbers → the vector of their sums, in fixed order."""
    lanes = vectors[0].type.count
    blocks = range(0, lanes, 4)
    # Neighbours are interleaved and halves added, within each four lanes, which is cheap.
    for picks in ((0, lanes, 1, lanes + 1), (0, 1, lanes, lanes + 1)):
        low = [block + pick for block in blocks for pick in picks]
        vectors = _folded(builder, vectors, low, [lane + 2 for lane in low])
    half = list(range(lanes // 2))
    low = half + [lanes + lane for lane in half]
    (joined,) = _folded(builder, vectors, low, [lane + lanes // 2 for lane in low])
    if lanes == ROWS_AT_ONCE:
        return joined
    low = [0, 1, 2, 3, 8, 9, 10, 11]
    return _folded(builder, [joined, joined], low, [lane + 4 for lane in low])[0]


def _folded(builder: Any, vectors: list[Any], low: list[int], high: list[int]) -> list[Any]:
    """Of each two neighbours, some lanes plus others."""
    return [
        builder.fadd(shuffle(builder, one, two, low), shuffle(builder, one, two, high))
        for one, two in zip(vectors[::2], vectors[1::2], strict=True)
    ]


def _joined(builder: Any, numbers: list[Any]) -> Any:
    """Eight numbers → a vector."""
    joined = ir.Constant(vector(FLOAT, len(numbers)), ir.Undefined)
    for lane, number in enumerate(numbers):
        joined = builder.insert_element(joined, number, ir.IntType(32)(lane))
    return joined
