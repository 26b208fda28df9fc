"""Two inner loops in explicit vectors: rows of weights added up, and pages' bounds multiplied.

They are written as LLVM vectors because LLVM's own vectoriser gives up on eight rows of bfloat16:
one core of an AVX2 machine read 4 GB/s then, and 18 with these; of fp32 15, and 24. A machine
with narrower or wider vectors gets the same loop split or joined.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    Matrix,
    fused,
    in_turns,
    line_of,
    load,
    prefetch,
    registers,
    smaller,
    splat,
    store,
    sum_each,
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
def dot_row_pairs(context, matrices, line, count, vectors, first, out):
    """out[v, first + k] = Σ_m Σ_d matrices[m][line + k, d] · vectors[m][v, d], k below 8.

    −inf from ``count`` on, whose rows are not read.

    Args:
        matrices: two [X, D] float32, or bfloat16 as uint16 bit patterns.
        line, count: int64, count in 1 to 8.
        vectors: two [V, D] float32.
        first: int64, at most n − 8.
        out: [V, n] float32, changed.
    """
    signature = types.void(matrices, types.int64, types.int64, vectors, types.int64, out)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = zip(*(Matrix.two(target, builder, sig, args, k) for k in (0, 3)), strict=True)
        out = Matrix.argument(target, builder, sig, args, 5)
        _dot(builder, list(pairs), (args[1], args[2]), out, args[4])
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
    """Write the sum over pairs of a matrix' rows times vectors; ``rows`` are line and count."""
    line, count = rows
    factors = [
        (weights, weights.neighbours(line, count, ROWS_AT_ONCE), vectors)
        for weights, vectors in pairs
    ]
    _, vectors = pairs[0]
    whole = builder.and_(vectors.width, INDEX(-registers().lanes))
    rest = builder.icmp_signed("<", whole, vectors.width)
    there = _first_lanes(builder, count)

    def together(v: Any, number: int) -> None:
        indices = [builder.add(v, INDEX(k)) for k in range(number)]

        def multiply(begin: Any, end: Any, lanes: int) -> list[list[Any]]:
            return _products(builder, factors, indices, (begin, end), lanes)

        def keep(index: Any, totals: Any) -> None:
            nothing = ir.Constant(totals.type, [-math.inf] * ROWS_AT_ONCE)
            totals = builder.select(there, totals, nothing)
            store(builder, totals, out.row(index), first, ROWS_AT_ONCE)

        sums = multiply(INDEX(0), whole, registers().lanes)
        eight = vector(FLOAT, ROWS_AT_ONCE)
        totals = [cgutils.alloca_once(builder, eight) for _ in sums]
        for total, some in zip(totals, sums, strict=True):
            builder.store(sum_each(builder, some), total)
        with builder.if_then(rest, likely=False):
            for total, some in zip(totals, multiply(whole, vectors.width, 1), strict=True):
                more = builder.fadd(builder.load(total), _joined(builder, some))
                builder.store(more, total)
        for index, total in zip(indices, totals, strict=True):
            keep(index, builder.load(total))

    in_turns(builder, vectors.height, registers().vectors, together)


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


def _first_lanes(builder: Any, count: Any) -> Any:
    """Return a mask of the eight lanes that lie below ``count``."""
    numbers = vector(INDEX, ROWS_AT_ONCE)
    order = ir.Constant(numbers, list(range(ROWS_AT_ONCE)))
    return builder.icmp_signed("<", order, splat(builder, count, ROWS_AT_ONCE))


def _places(builder: Any, first: Any, count: int = ROWS_AT_ONCE) -> list[Any]:
    return [builder.add(first, INDEX(k)) for k in range(count)]


def _joined(builder: Any, numbers: list[Any]) -> Any:
    """Eight numbers → a vector."""
    joined = ir.Constant(vector(FLOAT, len(numbers)), ir.Undefined)
    for lane, number in enumerate(numbers):
        joined = builder.insert_element(joined, number, ir.IntType(32)(lane))
    return joined
