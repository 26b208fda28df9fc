"""Two inner loops in explicit vectors: rows added up, and rows multiplied with a vector.

Everything a decode step of few rows reads goes through one of them: weights that lie
in-channel-major and cached values are rows to add up, weights that lie out-channel-major
and cached keys are rows to multiply. They are written as LLVM vectors of eight numbers
because LLVM's own vectoriser gives up on eight rows of bfloat16: one core of an AVX2
machine read 4 GB/s then, and 18 with these; of fp32 15, and 24. A machine with narrower
or wider vectors gets the same loop split or joined.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ["ROWS_AT_ONCE", "add_rows", "dot_rows", "prefetch_row", "prefetch_rows", "stream_rows"]

ROWS_AT_ONCE = 8  # of add_rows
_LANES = 8
_INDEX = ir.IntType(64)
_FLOAT = ir.FloatType()
_CACHE_LINE = 64  # bytes, or a divisor of what it is here
_FUSED = ("contract",)  # a multiply and an add become one instruction where there is one


@intrinsic
def add_rows(context, matrix, rows, scales, first, out):
    """out[j] += Σ_k scales[first + k] · matrix[rows[first + k], offset + j], k below 8.

    Args:
        matrix: (array, offset): [X, Y] float32, or bfloat16 as uint16 bit patterns.
        rows: [n] int64.
        scales: [n] float32.
        first: int64, at most n − 8.
        out: [J] float32, J ≤ Y − offset, changed.
    """
    return types.void(matrix, rows, scales, types.int64, out), _add_rows(prefetch=False)


@intrinsic
def stream_rows(context, matrix, rows, scales, first, out):
    """``add_rows`` that asks for the next eight rows meanwhile, for rows that lie in memory.

    The hardware does not foresee them, for each is short: two cores of an AVX-512 machine
    read 20 to 30 GB/s of a model's weights without asking, and 46 with it.
    """
    return types.void(matrix, rows, scales, types.int64, out), _add_rows(prefetch=True)


def _add_rows(*, prefetch: bool) -> Any:
    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, offset = cgutils.unpack_tuple(builder, args[0])
        weights = _Matrix(target, builder, sig.args[0][0], array, offset)
        row_data, num_rows = _line(target, builder, sig.args[1], args[1])
        scale_data, _ = _line(target, builder, sig.args[2], args[2])
        out_data, length = _line(target, builder, sig.args[4], args[4])
        places = [builder.add(args[3], _INDEX(k)) for k in range(ROWS_AT_ONCE)]

        def starts_at(places: list[Any]) -> list[Any]:
            return [weights.row(builder.load(builder.gep(row_data, [place]))) for place in places]

        starts, following = starts_at(places), []
        factors = [builder.load(builder.gep(scale_data, [place])) for place in places]
        if prefetch:
            last = builder.sub(num_rows, _INDEX(1))
            later = [builder.add(place, _INDEX(ROWS_AT_ONCE)) for place in places]
            following = starts_at([_smaller(builder, place, last) for place in later])

        def add(begin: Any, end: Any, step: int, lanes: int) -> None:
            spread = [_splat(builder, factor, lanes) for factor in factors]
            with cgutils.for_range_slice(builder, begin, end, _INDEX(step)) as (block, _):
                for start in following:
                    _prefetch(builder, builder.gep(start, [block]))
                for place in range(0, step, lanes):
                    j = builder.add(block, _INDEX(place))
                    # One chain in the rows' order: rows that are added times 0 change no bit.
                    total = _load(builder, out_data, j, lanes)
                    for start, factor in zip(starts, spread, strict=True):
                        total = _fused(builder, factor, weights.load(start, j, lanes), total)
                    _store(builder, total, out_data, j, lanes)

        line = weights.per_line
        whole = builder.and_(length, _INDEX(-line))
        add(_INDEX(0), whole, line, _LANES)
        add(whole, length, 1, 1)
        return target.get_dummy_value()

    return generate


@intrinsic
def dot_rows(context, matrix, rows, first, vector, out):
    """out[first + k] = Σ_d matrix[rows[first + k], d] · vector[d], k below 8.

    Args:
        matrix: [X, D] float32, or bfloat16 as uint16 bit patterns.
        rows: [n] int64.
        first: int64, at most n − 8.
        vector: [D] float32.
        out: [n] float32.
    """
    signature = types.void(matrix, rows, types.int64, vector, out)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights = _Matrix(target, builder, sig.args[0], args[0], _INDEX(0))
        row_data, _ = _line(target, builder, sig.args[1], args[1])
        vector_data, length = _line(target, builder, sig.args[3], args[3])
        out_data, _ = _line(target, builder, sig.args[4], args[4])
        places = [builder.add(args[2], _INDEX(k)) for k in range(ROWS_AT_ONCE)]
        starts = [weights.row(builder.load(builder.gep(row_data, [place]))) for place in places]

        def multiply(begin: Any, end: Any, lanes: int) -> list[Any]:
            zero = ir.Constant(_vector(_FLOAT, lanes), [0.0] * lanes if lanes > 1 else 0.0)
            sums = [cgutils.alloca_once_value(builder, zero) for _ in starts]
            for total in sums:
                builder.store(zero, total)
            with cgutils.for_range_slice(builder, begin, end, _INDEX(lanes)) as (d, _):
                factor = _load(builder, vector_data, d, lanes)
                for start, total in zip(starts, sums, strict=True):
                    product = weights.load(start, d, lanes)
                    builder.store(_fused(builder, factor, product, builder.load(total)), total)
            return [builder.load(total) for total in sums]

        whole = builder.and_(length, _INDEX(-_LANES))
        totals = _sum_each(builder, multiply(_INDEX(0), whole, _LANES))
        _store(builder, totals, out_data, args[2], _LANES)
        with builder.if_then(builder.icmp_signed("<", whole, length), likely=False):
            for place, rest in zip(places, multiply(whole, length, 1), strict=True):
                total = builder.fadd(_load(builder, out_data, place, 1), rest)
                _store(builder, total, out_data, place, 1)
        return target.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch_rows(context, matrix, rows, first):
    """Ask for matrix[rows[first + k]], k below 8, to be brought into the cache.

    Args:
        matrix: [X, D].
        rows: [n] int64.
        first: int64, at most n − 8.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights = _Matrix(target, builder, sig.args[0], args[0], _INDEX(0))
        row_data, _ = _line(target, builder, sig.args[1], args[1])
        for k in range(ROWS_AT_ONCE):
            place = builder.add(args[2], _INDEX(k))
            weights.prefetch(builder.load(builder.gep(row_data, [place])))
        return target.get_dummy_value()

    return types.void(matrix, rows, types.int64), generate


@intrinsic
def prefetch_row(context, matrix, row):
    """Ask for matrix[row] to be brought into the cache; matrix [X, D], row int64."""

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        _Matrix(target, builder, sig.args[0], args[0], _INDEX(0)).prefetch(args[1])
        return target.get_dummy_value()

    return types.void(matrix, types.int64), generate


class _Matrix:
    """Rows of a 2-d array in generated code, widened to float32 as they are read."""

    def __init__(self, target: Any, builder: Any, kind: Any, array: Any, offset: Any) -> None:
        values = target.make_array(kind)(target, builder, array)
        self._builder, self._data, self._offset = builder, values.data, offset
        self.width = cgutils.unpack_tuple(builder, values.shape)[1]
        self._narrow = isinstance(kind.dtype, types.Integer)
        self.per_line = _CACHE_LINE * 8 // kind.dtype.bitwidth

    def row(self, index: Any) -> Any:
        place = self._builder.add(self._builder.mul(index, self.width), self._offset)
        return self._builder.gep(self._data, [place])

    def prefetch(self, index: Any) -> None:
        builder, start = self._builder, self.row(index)
        step = _INDEX(self.per_line)
        with cgutils.for_range_slice(builder, _INDEX(0), self.width, step) as (place, _):
            _prefetch(builder, builder.gep(start, [place]))

    def load(self, start: Any, column: Any, lanes: int) -> Any:
        builder = self._builder
        if not self._narrow:
            return _load(builder, start, column, lanes)
        wide = _vector(ir.IntType(32), lanes)
        pattern = builder.zext(_load(builder, start, column, lanes, ir.IntType(16)), wide)
        sixteen = ir.Constant(wide, [16] * lanes if lanes > 1 else 16)
        return builder.bitcast(builder.shl(pattern, sixteen), _vector(_FLOAT, lanes))


def _line(target: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """Pointer to the first number of a 1-d array, and its length."""
    array = target.make_array(kind)(target, builder, value)
    return array.data, cgutils.unpack_tuple(builder, array.shape)[0]


def _vector(kind: Any, lanes: int) -> Any:
    return kind if lanes == 1 else ir.VectorType(kind, lanes)


def _load(builder: Any, data: Any, index: Any, lanes: int, kind: Any = _FLOAT) -> Any:
    pointer = builder.bitcast(builder.gep(data, [index]), _vector(kind, lanes).as_pointer())
    return builder.load(pointer, align=kind.width // 8 if kind is not _FLOAT else 4)


def _store(builder: Any, value: Any, data: Any, index: Any, lanes: int) -> None:
    pointer = builder.bitcast(builder.gep(data, [index]), _vector(_FLOAT, lanes).as_pointer())
    builder.store(value, pointer, align=4)


def _prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line of an address, to be read soon."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    name = "llvm.prefetch.p0i8" if "*" in str(pointer) else "llvm.prefetch.p0"
    prefetch = cgutils.get_or_insert_function(builder.module, kind, name)
    place = builder.bitcast(address, pointer)
    builder.call(prefetch, [place, number(0), number(3), number(1)])


def _smaller(builder: Any, one: Any, two: Any) -> Any:
    return builder.select(builder.icmp_signed("<", one, two), one, two)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    if lanes == 1:
        return scalar
    undefined = ir.Constant(_vector(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(_vector(ir.IntType(32), lanes), [0] * lanes)
    )


def _fused(builder: Any, one: Any, two: Any, total: Any) -> Any:
    product = builder.fmul(one, two, flags=_FUSED)
    return builder.fadd(product, total, flags=_FUSED)


def _sum_each(builder: Any, vectors: list[Any]) -> Any:
    """Eight vectors of eight numbers → the vector of their sums, by adding them crosswise."""
    width = _LANES // 2
    while len(vectors) > 1:
        # Lane l of a pair's result adds lanes ``width`` apart of its first or second vector.
        even, odd = [], []
        for lane in range(_LANES):
            group, place = divmod(lane, 2 * width)
            start = group * 2 * width + place % width + (_LANES if place >= width else 0)
            even.append(start)
            odd.append(start + width)
        vectors = [
            builder.fadd(_shuffle(builder, one, two, even), _shuffle(builder, one, two, odd))
            for one, two in zip(
                vectors[: len(vectors) // 2], vectors[len(vectors) // 2 :], strict=True
            )
        ]
        width //= 2
    return vectors[0]


def _shuffle(builder: Any, one: Any, two: Any, lanes: list[int]) -> Any:
    picks = ir.Constant(_vector(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(one, two, picks)
