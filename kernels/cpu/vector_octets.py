"""Attention's inner loops in explicit vectors: octets of cached rows multiplied, and added up.

An octet is up to eight rows one after another. Several heads read them at once: a number is
widened once for all of them, and sums stay in registers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import Argument, emitted
from kernels.cpu.numba_helpers import cpu_has
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    INTEGERS,
    Matrix,
    constant,
    fused,
    in_turns,
    line_of,
    load,
    splat,
    store,
    sum_each,
    vector,
)

ROWS = 8
LANES = 16 if cpu_has("avx512f") else 8  # numbers at once where rows are multiples of it
_HEADS = 3  # whose sums fit into the registers, of so many rows' products or of four columns
_ROWS_TOGETHER = 8 if LANES == 16 else 4  # there are 32 registers then, else 16
_COLUMNS = 4
_NOTHING = constant(FLOAT, ROWS, -math.inf)


def _prefetcher(builder: Any, later: Argument) -> Callable[[Any], None]:
    """Return a function that prefetches an entry's rows, of a matrix and a list of offsets."""
    matrix, listed = later.items()
    rows, (offsets, _) = Matrix(matrix), line_of(listed)

    def prefetch(entry: Any) -> None:
        start = rows.at(builder.load(builder.gep(offsets, [entry])))
        rows.prefetch(start, builder.mul(rows.width, INDEX(ROWS)))

    return prefetch


@emitted(row=types.int64)
def prefetch_row(builder, matrix, row):
    """Prefetch one row of [X, D]."""
    rows = Matrix(matrix)
    rows.prefetch(rows.row(row.value), rows.width)


@emitted(span=INTEGERS, prefer_literal=True)
def dot_octets(builder, matrix, listed, span, later, vectors, out, lanes):
    """out[v, 8 i + k] = Σ_d row_k[d] · vectors[v, d], where row_k is k rows behind the beginning of
    the i-th octet of a span; k below 8.

    −inf from the octet's count of rows on, which are not read.

    Args:
        matrix: [X, D] float32, or bfloat16 as uint16 bit patterns.
        listed: [3, n] int64: counts of 1 to 8 rows, and where octets begin: in numbers behind
            the first of ``matrix``, and the same for ``add_octets``. That may be another array.
        span: int64 [begin, end) of the list.
        later: ([Y, D], [n] int64): eight rows from the i-th number on, which need not all be there,
            are prefetched with octet i. All at once they made the core wait.
        vectors: [V, D] float32.
        out: [V, ≥ 8 (end − begin)] float32, changed.
        lanes: literal, how many numbers at once: 1, or ``LANES`` where it divides D.
    """
    width = lanes.kind.literal_value
    rows, listed, vectors, out = map(Matrix, (matrix, listed, vectors, out))
    lists = [listed.row(INDEX(k)) for k in (1, 0)]
    octets = cgutils.unpack_tuple(builder, span.value)
    prefetch = _prefetcher(builder, later)

    def together(v: Any, number: int) -> None:
        indices = [builder.add(v, INDEX(k)) for k in range(number)]
        factors, scores = ([m.row(index) for index in indices] for m in (vectors, out))
        with cgutils.for_range_slice(builder, *octets, INDEX(1)) as (octet, passed):
            prefetch(octet)
            line, count = (builder.load(builder.gep(row, [octet])) for row in lists)
            totals = _dot(builder, rows, (line, count), factors, width)
            column = builder.mul(passed, INDEX(ROWS))
            for score, total in zip(scores, totals, strict=True):
                store(builder, total, score, column, ROWS)

    in_turns(builder, vectors.height, _HEADS, together)


def _dot(
    builder: Any, rows: Matrix, octet: tuple[Any, Any], vectors: list[Any], lanes: int
) -> list[Any]:
    """Each vector's products with an octet, which begins at a line; −inf from its count on."""
    line, count = octet
    starts = rows.neighbours(line, count, ROWS)
    parts = [
        _products(builder, rows, starts[k : k + _ROWS_TOGETHER], vectors, lanes)
        for k in range(0, ROWS, _ROWS_TOGETHER)
    ]
    join = sum_each if lanes > 1 else _joined
    order = ir.Constant(vector(INDEX, ROWS), list(range(ROWS)))
    there = builder.icmp_signed("<", order, splat(builder, count, ROWS))
    return [
        builder.select(there, join(builder, list(itertools.chain(*some))), _NOTHING)
        for some in zip(*parts, strict=True)
    ]


def _products(
    builder: Any, rows: Matrix, starts: list[Any], vectors: list[Any], lanes: int
) -> list[list[Any]]:
    """Products of each vector with the rows that start there, summed per lane."""
    zero = constant(FLOAT, lanes, 0.0)
    sums = [[cgutils.alloca_once(builder, zero.type) for _ in starts] for _ in vectors]
    for total in itertools.chain(*sums):
        builder.store(zero, total)
    with cgutils.for_range_slice(builder, INDEX(0), rows.width, INDEX(lanes)) as (d, _):
        numbers = [load(builder, line, d, lanes) for line in vectors]
        for k, start in enumerate(starts):
            read = rows.load(start, d, lanes)
            for number, totals in zip(numbers, sums, strict=True):
                total = fused(builder, number, read, builder.load(totals[k]))
                builder.store(total, totals[k])
    return [[builder.load(total) for total in totals] for totals in sums]


def _joined(builder: Any, numbers: list[Any]) -> Any:
    """Eight numbers → a vector."""
    joined = ir.Constant(vector(FLOAT, len(numbers)), ir.Undefined)
    for lane, number in enumerate(numbers):
        joined = builder.insert_element(joined, number, ir.IntType(32)(lane))
    return joined


@emitted(span=INTEGERS, prefer_literal=True)
def add_octets(builder, matrix, listed, span, later, scales, fades, out, lanes):
    """out[v] = fades[v] · out[v] + Σ_i Σ_k scales[v, 8 i + k] · row_min(k, count − 1), over the
    octets i of a span, whose rows are counted from its beginning; k below 8.

    Args:
        matrix: [X, D] float32, or bfloat16 as uint16 bit patterns.
        listed, span, later, lanes: as of ``dot_octets``.
        scales: [V, ≥ 8 (end − begin)] float32.
        fades: [V] float32.
        out: [V, D] float32, changed.
    """
    width = lanes.kind.literal_value
    rows, listed, scales, out = map(Matrix, (matrix, listed, scales, out))
    lists = listed.row(INDEX(2)), listed.row(INDEX(0))
    octets = cgutils.unpack_tuple(builder, span.value)
    fade_data, _ = line_of(fades)
    prefetch = _prefetcher(builder, later)

    def together(v: Any, number: int) -> None:
        indices = [builder.add(v, INDEX(k)) for k in range(number)]
        factors, outputs = ([m.row(index) for index in indices] for m in (scales, out))
        faded = [builder.load(builder.gep(fade_data, [index])) for index in indices]
        done = INDEX(0)
        for columns in (_COLUMNS, 1) if width > 1 else (1,):
            step = columns * width
            end = builder.and_(out.width, INDEX(-step))
            with cgutils.for_range_slice(builder, done, end, INDEX(step)) as (j, _):
                firsts = [builder.add(j, INDEX(n * width)) for n in range(columns)]
                heads = list(zip(factors, faded, outputs, strict=True))
                _add(builder, rows, (*lists, *octets), prefetch, heads, firsts, width)
            done = end

    in_turns(builder, out.height, _HEADS, together)


def _add(
    builder: Any,
    rows: Matrix,
    listed: Any,
    prefetch: Callable[[Any], None],
    heads: list[Any],
    firsts: list[Any],
    lanes: int,
) -> None:
    """``add_octets`` of some columns, ``lanes`` from each of them on, and of some vectors: their
    scales, fades and outputs."""
    lines, counts, begin, end = listed
    totals = [[cgutils.alloca_once(builder, vector(FLOAT, lanes)) for _ in firsts] for _ in heads]
    for (_, fade, out), sums in zip(heads, totals, strict=True):
        spread = splat(builder, fade, lanes)
        for at, total in zip(firsts, sums, strict=True):
            builder.store(builder.fmul(load(builder, out, at, lanes), spread), total)
    with cgutils.for_range_slice(builder, begin, end, INDEX(1)) as (octet, passed):
        prefetch(octet)
        line, count = (builder.load(builder.gep(data, [octet])) for data in (lines, counts))
        first = builder.mul(passed, INDEX(ROWS))
        for k, start in enumerate(rows.neighbours(line, count, ROWS)):
            at = builder.add(first, INDEX(k))
            factors = [builder.load(builder.gep(scales, [at])) for scales, _, _ in heads]
            spread = [splat(builder, factor, lanes) for factor in factors]
            for n, column in enumerate(firsts):
                read = rows.load(start, column, lanes)
                for factor, sums in zip(spread, totals, strict=True):
                    builder.store(fused(builder, factor, read, builder.load(sums[n])), sums[n])
    for (_, _, out), sums in zip(heads, totals, strict=True):
        for at, total in zip(firsts, sums, strict=True):
            store(builder, builder.load(total), out, at, lanes)
