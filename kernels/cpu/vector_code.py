"""LLVM's vectors, as inner loops are written in them, and rows of weights added up.

LLVM does not vectorise a loop over eight rows of bfloat16: one core of an AVX2 machine reads 4 GB/s
that way and 18 with explicit vectors (fp32: 15 and 24). Functions here add instructions to a loop
that is being built: ``builder`` is llvmlite's. Vectors hold as many numbers as the CPU's registers,
found when a kernel is compiled; Numba keeps compiled kernels apart by CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import Argument, emitted
from kernels.cpu.numba_helpers import llvm_call

INDEX = ir.IntType(64)
_ZERO = INDEX(0)
FLOAT = ir.FloatType()
INTEGERS = types.UniTuple(types.int64, 2)
_CACHE_LINE = 64  # bytes, or a divisor of what it is here
STREAM_ROWS = 2
_STREAM_LANES = 16
_FUSED = ("contract",)  # a multiply and an add become one instruction where there is one


class Matrix:
    """Rows of a 2-d array in generated code, widened to float32 as they are read."""

    def __init__(self, argument: Argument, offset: Any = _ZERO) -> None:
        builder, dtype, values = argument.builder, argument.kind.dtype, argument.array()
        self._builder, self._data, self._offset = builder, values.data, offset
        self.height, self.width = cgutils.unpack_tuple(builder, values.shape)
        # Rows of a part of a matrix are further apart than they are wide.
        stride = cgutils.unpack_tuple(builder, values.strides)[0]
        self.stride = builder.sdiv(stride, INDEX(dtype.bitwidth // 8))
        self._narrow = isinstance(dtype, types.Integer)
        self.per_line = _CACHE_LINE * 8 // dtype.bitwidth

    def row(self, index: Any) -> Any:
        offset = self._builder.add(self._builder.mul(index, self.stride), self._offset)
        return self._builder.gep(self._data, [offset])

    def at(self, offset: Any) -> Any:
        """Pointer to the number so many numbers behind the first; it may lie in another array."""
        return self._builder.gep(self._data, [offset])

    def neighbours(self, first: Any, count: Any, most: int) -> list[Any]:
        """Starts of so many rows one after another from the offset ``first`` on, of which there
        are ``count``; the last one is repeated."""
        builder, last = self._builder, self._builder.sub(count, INDEX(1))
        start = self.at(first)
        # Not each from the one before: reads that wait for a chain of additions come too late.
        rows = [smaller(builder, INDEX(k), last) if k else INDEX(0) for k in range(most)]
        return [builder.gep(start, [builder.mul(row, self.stride)]) for row in rows]

    def prefetch(self, start: Any, count: Any) -> None:
        """Prefetch ``count`` numbers from a pointer on."""
        builder = self._builder
        step = INDEX(self.per_line)
        with cgutils.for_range_slice(builder, INDEX(0), count, step) as (at, _):
            prefetch(builder, builder.gep(start, [at]))

    def load(self, start: Any, column: Any, lanes: int) -> Any:
        if not self._narrow:
            return load(self._builder, start, column, lanes)
        patterns = load(self._builder, start, column, lanes, ir.IntType(16))
        return widened(self._builder, patterns, lanes)


def line_of(argument: Argument) -> tuple[Any, Any]:
    """Pointer to the first number of a 1-d array, and its length."""
    array = argument.array()
    return array.data, cgutils.unpack_tuple(argument.builder, array.shape)[0]


def vector(kind: Any, lanes: int) -> Any:
    return kind if lanes == 1 else ir.VectorType(kind, lanes)


def constant(kind: Any, lanes: int, value: Any) -> Any:
    return ir.Constant(vector(kind, lanes), [value] * lanes if lanes > 1 else value)


def load(builder: Any, data: Any, index: Any, lanes: int, kind: Any = FLOAT) -> Any:
    pointer = builder.bitcast(builder.gep(data, [index]), vector(kind, lanes).as_pointer())
    return builder.load(pointer, align=kind.width // 8 if kind is not FLOAT else 4)


def store(builder: Any, value: Any, data: Any, index: Any, lanes: int) -> None:
    pointer = builder.bitcast(builder.gep(data, [index]), vector(FLOAT, lanes).as_pointer())
    builder.store(value, pointer, align=4)


def widened(builder: Any, patterns: Any, lanes: int) -> Any:
    """Bit patterns of bfloat16 as float32."""
    sixteen = constant(ir.IntType(32), lanes, 16)
    bits = builder.shl(builder.zext(patterns, sixteen.type), sixteen)
    return builder.bitcast(bits, vector(FLOAT, lanes))


def prefetch(builder: Any, address: Any, *, near: bool = True) -> None:
    """Prefetch the cache line of an address, to be read soon.

    Into all caches, or into all but the first: a core has room for about two dozen lines on their
    way to its first cache, and waits when it asks for more. A hint that a line is read only once
    (``prefetchnta``) took 0.95 of the time on one AVX-512 AMD, but 1.5 of it on an AVX2 one, whose
    first cache such lines fill, and 1.7 on an Intel (docs/decisions.md).
    """
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    name = "llvm.prefetch.p0i8" if "*" in str(pointer) else "llvm.prefetch.p0"
    reading, where, data = number(0), number(3 if near else 2), number(1)
    arguments = [builder.bitcast(address, pointer), reading, where, data]
    llvm_call(builder, name, ir.VoidType(), arguments)


def smaller(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.icmp_signed("<", left, right), left, right)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    if lanes == 1:
        return scalar
    undefined = ir.Constant(vector(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return shuffle(builder, first, undefined, [0] * lanes)


def fused(builder: Any, left: Any, right: Any, total: Any) -> Any:
    product = builder.fmul(left, right, flags=_FUSED)
    return builder.fadd(product, total, flags=_FUSED)


def shuffle(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    picks = ir.Constant(vector(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(left, right, picks)


def in_turns(builder: Any, total: Any, most: int, emit: Callable[[Any, int], None]) -> None:
    """``emit(first, count)`` for all numbers below ``total``, at most so many together."""
    whole = builder.sub(total, builder.srem(total, INDEX(most)))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(most)) as (first, _):
        emit(first, most)
    for count in range(1, most):
        left = builder.icmp_signed("==", builder.sub(total, whole), INDEX(count))
        with builder.if_then(left):
            emit(whole, count)


def sum_each(builder: Any, vectors: list[Any]) -> Any:
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
    if lanes == 8:
        return joined
    low = [0, 1, 2, 3, 8, 9, 10, 11]
    return _folded(builder, [joined, joined], low, [lane + 4 for lane in low])[0]


def _folded(builder: Any, vectors: list[Any], low: list[int], high: list[int]) -> list[Any]:
    """Fold each pair of vectors: some lanes plus others."""
    return [
        builder.fadd(shuffle(builder, *pair, low), shuffle(builder, *pair, high))
        for pair in zip(vectors[::2], vectors[1::2], strict=True)
    ]


@emitted()
def stream_rows(builder, matrix, rows, scales, at, out):
    """out[j] += Σ_k scales[first + k] · matrix[rows[first + k], offset + j], k below 2.

    Two later rows are prefetched meanwhile. The hardware does not predict them, for each is short:
    two cores of an AVX-512 machine read 20 to 30 GB/s of a model's weights without it, and 46 with
    it. More rows at once would save reading and writing ``out``,
    but memory answers few streams faster: with eight of them it gave a tenth less.

    Args:
        matrix: (array, offset): [X, Y] float32, or bfloat16 as uint16 bit patterns.
        rows: [n] int64.
        scales: [n] float32.
        at: first, int64, at most n − 2, and how many pairs later those are that are prefetched.
        out: [J] float32, J ≤ Y − offset, changed.
    """

    array, offset = matrix.items()
    weights = Matrix(array, offset.value)
    (row_data, num_rows), (scale_data, _), (out_data, length) = map(line_of, (rows, scales, out))
    first, ahead = cgutils.unpack_tuple(builder, at.value)
    entries = [builder.add(first, INDEX(k)) for k in range(STREAM_ROWS)]

    def starts_at(entries: list[Any]) -> list[Any]:
        return [weights.row(builder.load(builder.gep(row_data, [at]))) for at in entries]

    starts = starts_at(entries)
    last = builder.sub(num_rows, INDEX(1))
    distance = builder.mul(ahead, INDEX(STREAM_ROWS))
    later = [builder.add(entry, distance) for entry in entries]
    following = starts_at([smaller(builder, entry, last) for entry in later])
    factors = [builder.load(builder.gep(scale_data, [entry])) for entry in entries]
    line = weights.per_line
    whole = builder.and_(length, INDEX(-line))
    ranges = (INDEX(0), whole, line, _STREAM_LANES), (whole, length, 1, 1)
    for begin, end, step, lanes in ranges:
        spread = [splat(builder, factor, lanes) for factor in factors]
        with cgutils.for_range_slice(builder, begin, end, INDEX(step)) as (block, _):
            for start in following:
                prefetch(builder, builder.gep(start, [block]))
            for column in range(0, step, lanes):
                j = builder.add(block, INDEX(column))
                # One chain in the rows' order: rows that are added times 0 change no bit.
                total = load(builder, out_data, j, lanes)
                for start, factor in zip(starts, spread, strict=True):
                    total = fused(builder, factor, weights.load(start, j, lanes), total)
                store(builder, total, out_data, j, lanes)


@emitted(offset=types.int64, count=types.int64)
def prefetch_numbers(builder, matrix, offset, count):
    """Prefetch ``count`` numbers from an offset on, which need not be there.

    Args:
        matrix: [X, D], rows next to each other; offset, count: int64.
    """
    weights = Matrix(matrix)
    weights.prefetch(weights.at(offset.value), count.value)
