"""LLVM's vectors, as the inner loops of ``vector_rows.py`` are written in them.

Functions here add instructions to a loop that is being built: ``builder`` is llvmlite's. Vectors
hold as many numbers as the CPU's registers, found when a kernel is compiled; Numba keeps compiled
kernels apart by CPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.numba_helpers import cpu_has

INDEX = ir.IntType(64)
FLOAT = ir.FloatType()
_CACHE_LINE = 64  # bytes, or a divisor of what it is here
_FUSED = ("contract",)  # a multiply and an add become one instruction where there is one


class _Registers(NamedTuple):
    """Numbers per vector, and vectors times eight rows at once: sums stay in registers."""

    lanes: int
    vectors: int


def registers() -> _Registers:
    """32 registers of sixteen numbers hold 24 sums; 16 registers of eight hold eight."""
    return _Registers(16, 3) if cpu_has("avx512f") else _Registers(8, 1)


class Matrix:
    """Rows of a 2-d array in generated code, widened to float32 as they are read."""

    def __init__(self, target: Any, builder: Any, kind: Any, array: Any, offset: Any) -> None:
        values = target.make_array(kind)(target, builder, array)
        self._builder, self._data, self._offset = builder, values.data, offset
        self.height, self.width = cgutils.unpack_tuple(builder, values.shape)
        # Rows of a part of a matrix are further apart than they are wide.
        stride = cgutils.unpack_tuple(builder, values.strides)[0]
        self._stride = builder.sdiv(stride, INDEX(kind.dtype.bitwidth // 8))
        self._narrow = isinstance(kind.dtype, types.Integer)
        self.per_line = _CACHE_LINE * 8 // kind.dtype.bitwidth

    @staticmethod
    def argument(target: Any, builder: Any, sig: Any, args: Any, place: int) -> Matrix:
        return Matrix(target, builder, sig.args[place], args[place], INDEX(0))

    @staticmethod
    def two(target: Any, builder: Any, sig: Any, args: Any, place: int) -> list[Matrix]:
        """Of an argument that is a pair of arrays."""
        arrays = cgutils.unpack_tuple(builder, args[place])
        kinds = (sig.args[place][0], sig.args[place][1])
        return [
            Matrix(target, builder, kind, array, INDEX(0))
            for kind, array in zip(kinds, arrays, strict=True)
        ]

    def row(self, index: Any) -> Any:
        place = self._builder.add(self._builder.mul(index, self._stride), self._offset)
        return self._builder.gep(self._data, [place])

    def starts(self, indices: list[Any]) -> list[Any]:
        return [self.row(index) for index in indices]

    def prefetch(self, index: Any, count: Any) -> None:
        """Ask for ``count`` numbers from the beginning of a row on."""
        builder, start = self._builder, self.row(index)
        step = INDEX(self.per_line)
        with cgutils.for_range_slice(builder, INDEX(0), count, step) as (place, _):
            prefetch(builder, builder.gep(start, [place]))

    def load(self, start: Any, column: Any, lanes: int) -> Any:
        builder = self._builder
        if not self._narrow:
            return load(builder, start, column, lanes)
        wide = vector(ir.IntType(32), lanes)
        pattern = builder.zext(load(builder, start, column, lanes, ir.IntType(16)), wide)
        sixteen = ir.Constant(wide, [16] * lanes if lanes > 1 else 16)
        return builder.bitcast(builder.shl(pattern, sixteen), vector(FLOAT, lanes))


def line_of(target: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """Pointer to the first number of a 1-d array, and its length."""
    array = target.make_array(kind)(target, builder, value)
    return array.data, cgutils.unpack_tuple(builder, array.shape)[0]


def vector(kind: Any, lanes: int) -> Any:
    return kind if lanes == 1 else ir.VectorType(kind, lanes)


def load(builder: Any, data: Any, index: Any, lanes: int, kind: Any = FLOAT) -> Any:
    pointer = builder.bitcast(builder.gep(data, [index]), vector(kind, lanes).as_pointer())
    return builder.load(pointer, align=kind.width // 8 if kind is not FLOAT else 4)


def store(builder: Any, value: Any, data: Any, index: Any, lanes: int) -> None:
    pointer = builder.bitcast(builder.gep(data, [index]), vector(FLOAT, lanes).as_pointer())
    builder.store(value, pointer, align=4)


def prefetch(builder: Any, address: Any, *, near: bool = True) -> None:
    """Ask for the cache line of an address, to be read soon.

    Into all caches, or into all but the first: a core has room for about two dozen lines on their
    way to its first cache, and waits when it asks for more. A hint that a line is read only once
    (``prefetchnta``) took 0.95 of the time on one AVX-512 AMD, but 1.5 of it on an AVX2 one, whose
    first cache such lines fill, and 1.7 on an Intel (docs/decisions.md).
    """
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    name = "llvm.prefetch.p0i8" if "*" in str(pointer) else "llvm.prefetch.p0"
    prefetch = cgutils.get_or_insert_function(builder.module, kind, name)
    place = builder.bitcast(address, pointer)
    reading, where, data = number(0), number(3 if near else 2), number(1)
    builder.call(prefetch, [place, reading, where, data])


def smaller(builder: Any, one: Any, two: Any) -> Any:
    return builder.select(builder.icmp_signed("<", one, two), one, two)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    if lanes == 1:
        return scalar
    undefined = ir.Constant(vector(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(vector(ir.IntType(32), lanes), [0] * lanes)
    )


def fused(builder: Any, one: Any, two: Any, total: Any) -> Any:
    product = builder.fmul(one, two, flags=_FUSED)
    return builder.fadd(product, total, flags=_FUSED)


def shuffle(builder: Any, one: Any, two: Any, lanes: list[int]) -> Any:
    picks = ir.Constant(vector(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(one, two, picks)
