"""The inner loops over quantised weights in LLVM's vectors: one block of one tile.

Activations of 8 bits or fewer are multiplied in integers, four listed channels at a time: their
lines are interleaved byte by byte in registers, so that a dot product of four bytes (VNNI's
``vpdpbusd``, or AVX2's two multiply-adds) sums them. For 128 outputs of four channels that is 24
instructions, where floats take 104.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import Argument, emitted
from kernels.cpu.numba_helpers import cpu_has, llvm_call
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    Matrix,
    constant,
    fused,
    load,
    prefetch,
    shuffle,
    splat,
    store,
    vector,
)
from kernels.quantised_weights import BLOCK, LINE_WORDS

MOST_BITS = 8  # of an activation
CHANNELS = 4  # that are summed at once
_VNNI = cpu_has("avx512vnni") and cpu_has("avx512vl")
HAS_INTEGERS = _VNNI or cpu_has("avx2")  # ARM's dot products are not used: floats are
_BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_INT = types.int64


@emitted(offset=_INT, row=_INT, column=_INT, prefer_literal=True)
def add_block(builder, data, offset, listed, row, out, column, bits):
    """out[row, column + j] += Σ_i factors[row, i] · W[channels[i], j], of one block of one tile.

    A word holds numbers of several outputs. In each half of it they are masked, not shifted, and so
    count 2^(bits · k) times, which is taken back at the end: powers of two are exact, and an
    instruction is saved.

    Args:
        data: [n] uint8, 4-byte aligned; offset: int64, where the block begins (``__init__.py``).
        listed: channels [n] int64 within their blocks, factors [R, n] float32, [begin, end) of
            those to use, [begin, end) of those that a later block will use, which are prefetched
            one by one between the products (at once, they made the core wait: twice the time),
            the used factors' sum float32, words of a channel, 8 or 16, and how many blocks later.
        row: int64; a row, not a slice, which counts references.
        out: [R, ≥ column + outputs] float32, changed.
        bits: literal, 4 or 8.
    """
    given = data, offset, listed, row, out, column
    _emit_block(builder, partial(_add, bits.kind.literal_value), given, wide=cpu_has("avx512f"))


def _emit_block(
    builder: Any, emit: Callable[[Any, Any, int], None], given: tuple[Argument, ...], *, wide: bool
) -> None:
    """Emit a block's products in sixteen lanes where registers are wide and a channel has as many
    words, else in eight. ``emit`` gets pointers to the block, to the outputs, to the channels and
    to the row's numbers, and what else is listed."""
    data, offset, listed, row, out, column = given
    channels, numbers, *rest = listed.items()
    block = (
        builder.gep(data.array().data, [offset.value]),
        builder.gep(Matrix(out).row(row.value), [column.value]),
        channels.array().data,
        Matrix(numbers).row(row.value),
        *(argument.value for argument in rest),
    )
    words = rest[-2].value
    if not wide:
        emit(builder, block, 8)
        return
    whole = builder.icmp_signed("==", words, INDEX(LINE_WORDS))
    with builder.if_else(whole) as branches:
        for branch, lanes in zip(branches, (16, 8), strict=True):
            with branch:
                emit(builder, block, lanes)


class Later:
    """A block further on: its scales and minima, and its listed channels."""

    def __init__(
        self, builder: Any, block: Any, channels: Any, span: Any, bits: int, words: Any
    ) -> None:
        self._builder, self._channels = builder, channels
        self._begin, self._end, ahead = span
        self._heads = builder.mul(words, INDEX(4 * 32 // bits))
        self._line = builder.mul(words, INDEX(4))
        whole = builder.add(self._heads, builder.mul(self._line, INDEX(BLOCK)))
        self._first = builder.gep(block, [builder.mul(whole, ahead)])

    def prefetch_heads(self) -> None:
        builder = self._builder
        with (
            builder.if_then(builder.icmp_signed("<", self._begin, self._end)),
            cgutils.for_range_slice(builder, INDEX(0), self._heads, INDEX(64)) as (at, _),
        ):
            prefetch(builder, builder.gep(self._first, [at]), near=False)

    def prefetch_channel(self, count: Any) -> None:
        """The channel after so many others of the block, if it has one."""
        entry = self._builder.add(self._begin, count)
        with self._builder.if_then(self._builder.icmp_signed("<", entry, self._end)):
            self._prefetch_entry(entry)

    def prefetch_rest(self, count: Any) -> None:
        """The channels after so many others."""
        begin = self._builder.add(self._begin, count)
        with cgutils.for_range_slice(self._builder, begin, self._end, INDEX(1)) as (entry, _):
            self._prefetch_entry(entry)

    def _prefetch_entry(self, entry: Any) -> None:
        builder = self._builder
        channel = builder.load(builder.gep(self._channels, [entry]))
        at = builder.add(self._heads, builder.mul(channel, self._line))
        prefetch(builder, builder.gep(self._first, [at]), near=False)


def _add(bits: int, builder: Any, given: Any, lanes: int) -> None:
    """``add_block`` of so many lanes of the words at a time; given as ``_emit_block`` does it."""
    block, out, channels, factors, begin, end, *later_span, total, words, ahead = given
    per_word = 32 // bits
    outputs = builder.mul(words, INDEX(per_word))
    wide = vector(FLOAT, lanes)
    # Behind scales and minima, two bytes each.
    first = builder.gep(block, [builder.mul(outputs, INDEX(4))])
    first = builder.bitcast(first, _WORD.as_pointer())
    later = Later(builder, block, channels, (*later_span, ahead), bits, words)
    later.prefetch_heads()
    sums = [cgutils.alloca_once(builder, wide) for _ in range(per_word)]
    with cgutils.for_range_slice(builder, INDEX(0), words, INDEX(lanes)) as (lane, _):
        for pointer in sums:
            builder.store(constant(FLOAT, lanes, 0.0), pointer)
        with cgutils.for_range_slice(builder, begin, end, INDEX(1)) as (i, _):
            with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
                later.prefetch_channel(builder.sub(i, begin))
            channel = builder.load(builder.gep(channels, [i]))
            factor = splat(builder, builder.load(builder.gep(factors, [i])), lanes)
            at = builder.add(builder.mul(channel, words), lane)
            low = load(builder, first, at, lanes, _WORD)
            halves = (low, builder.lshr(low, constant(_WORD, lanes, 16)))
            for k, pointer in enumerate(sums):
                high, position = divmod(k, per_word // 2)
                mask = (2**bits - 1) << bits * position
                code = builder.and_(halves[high], constant(_WORD, lanes, mask))
                value = builder.sitofp(code, wide)
                builder.store(fused(builder, factor, value, builder.load(pointer)), pointer)
        with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
            later.prefetch_rest(builder.sub(end, begin))
        spread = splat(builder, total, lanes)
        for k, pointer in enumerate(sums):
            at = builder.add(builder.mul(words, INDEX(k)), lane)
            power = constant(FLOAT, lanes, 2.0 ** (-bits * (k % (per_word // 2))))
            value = builder.fmul(builder.load(pointer), power)
            _add_scaled(builder, block, outputs, out, at, value, spread)


def _add_scaled(
    builder: Any, block: Any, outputs: Any, out: Any, at: Any, value: Any, spread: Any
) -> None:
    """Add scales · ``value`` and minima · ``spread`` to some of a block's so many outputs."""
    lanes = value.type.count
    scale = _half_precision(builder, block, at, lanes)
    least = _half_precision(builder, block, builder.add(at, outputs), lanes)
    before = fused(builder, scale, value, load(builder, out, at, lanes))
    store(builder, fused(builder, least, spread, before), out, at, lanes)


def _half_precision(builder: Any, block: Any, index: Any, lanes: int) -> Any:
    """Float16 numbers of a block from an index on, as float32."""
    data = builder.bitcast(block, ir.HalfType().as_pointer())
    pointer = builder.bitcast(builder.gep(data, [index]), vector(ir.HalfType(), lanes).as_pointer())
    return builder.fpext(builder.load(pointer, align=2), vector(FLOAT, lanes))


@emitted(offset=_INT, row=_INT, column=_INT)
def add_integers(builder, data, offset, listed, row, out, column):
    """out[row, column + j] += step · Σ_i levels[row, i] · W[channels[i], j], of one block of one
    tile of 4 bits; within the block the sum is exact.

    Args:
        data, offset, row, out, column: as of ``add_block``.
        listed: channels [n] int64 within their blocks, in fours, levels [R, n] int8, [begin, end)
            of those to use and of those that a later block will use, the sum of step · levels
            float32, step float32, words of a channel, 8 or 16, and how many blocks later.
    """
    if not HAS_INTEGERS:  # never called then, but compiled
        return
    given = data, offset, listed, row, out, column
    _emit_block(builder, _add_integers, given, wide=_VNNI)


def _add_integers(builder: Any, given: Any, lanes: int) -> None:
    """``add_integers`` of so many lanes of the words at a time; given as ``_emit_block`` does."""
    block, out, channels, levels, begin, end, *later_span, total, step, words, ahead = given
    outputs = builder.mul(words, INDEX(8))
    first = builder.gep(block, [builder.mul(outputs, INDEX(4))])
    first = builder.bitcast(first, _WORD.as_pointer())
    later = Later(builder, block, channels, (*later_span, ahead), 4, words)
    later.prefetch_heads()
    zero = constant(_WORD, lanes, 0)
    sums = [cgutils.alloca_once(builder, zero.type) for _ in range(8)]
    with cgutils.for_range_slice(builder, INDEX(0), words, INDEX(lanes)) as (lane, _):
        for pointer in sums:
            builder.store(zero, pointer)
        with cgutils.for_range_slice(builder, begin, end, INDEX(CHANNELS)) as (i, _):
            lines = []
            for k in range(CHANNELS):
                at = builder.add(i, INDEX(k))
                with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
                    later.prefetch_channel(builder.sub(at, begin))
                channel = builder.load(builder.gep(channels, [at]))
                word = builder.add(builder.mul(channel, words), lane)
                lines.append(load(builder, first, word, lanes, _WORD))
            four = builder.bitcast(builder.gep(levels, [i]), _WORD.as_pointer())
            factors = splat(builder, builder.load(four, align=1), lanes)
            for k, codes in enumerate(_transposed(builder, lines, _BYTE, _SHORT)):
                for sum_, plane in zip(sums[k::4], _planes(builder, codes), strict=True):
                    product = _dot(builder, builder.load(sum_), plane, factors)
                    builder.store(product, sum_)
        with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
            later.prefetch_rest(builder.sub(end, begin))
        spread = splat(builder, total, lanes)
        for high in range(2):
            power = FLOAT(1 / 16 if high and _VNNI else 1.0)
            factor = splat(builder, builder.fmul(step, power), lanes)
            loaded = [builder.load(pointer) for pointer in sums[4 * high : 4 * high + 4]]
            for byte, dots in enumerate(_transposed(builder, loaded, _WORD, _LONG)):
                at = builder.add(builder.mul(words, INDEX(2 * byte + high)), lane)
                value = builder.fmul(builder.sitofp(dots, factor.type), factor)
                _add_scaled(builder, block, outputs, out, at, value, spread)


def _planes(builder: Any, codes: Any) -> tuple[Any, Any]:
    """The low and the high numbers of all bytes; with VNNI, whose sums have room, the high ones
    count 16 times: that saves a shift."""
    number = partial(constant, _WORD, codes.type.count)
    high = codes if _VNNI else builder.lshr(codes, number(4))
    low = builder.and_(codes, number(0x0F0F0F0F))
    return low, builder.and_(high, number(0xF0F0F0F0 if _VNNI else 0x0F0F0F0F))


def _dot(builder: Any, total: Any, codes: Any, factors: Any) -> Any:
    """Words plus the dot products of their four unsigned and four signed bytes."""
    lanes, words = total.type.count, total.type
    if _VNNI:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        return llvm_call(builder, name, words, [total, codes, factors])
    narrow, pairs = vector(_BYTE, 4 * lanes), vector(_SHORT, 2 * lanes)
    given = [builder.bitcast(words, narrow) for words in (codes, factors)]
    # Of two products of at most 15 · 127 each: no sum saturates.
    sums = llvm_call(builder, "llvm.x86.avx2.pmadd.ub.sw", pairs, given)
    ones = ir.Constant(pairs, [1] * (2 * lanes))
    return builder.add(total, llvm_call(builder, "llvm.x86.avx2.pmadd.wd", words, [sums, ones]))


def _transposed(builder: Any, rows: list[Any], small: Any, large: Any) -> list[Any]:
    """Four vectors of words, of whose every 128 bits the 4 × 4 matrix of ``small`` numbers, or the
    four of them in each 16 bytes, are transposed; ``large`` are twice as wide."""
    kind, bits = rows[0].type, 32 * rows[0].type.count

    def interleaved(first: Any, second: Any, number: Any) -> list[Any]:
        count, per = bits // number.width, 128 // number.width
        narrow = vector(number, count)
        low, high = builder.bitcast(first, narrow), builder.bitcast(second, narrow)
        halves = []
        for start in (0, per // 2):
            picks = [
                pick
                for base in range(start, count, per)
                for lane in range(base, base + per // 2)
                for pick in (lane, count + lane)
            ]
            halves.append(builder.bitcast(shuffle(builder, low, high, picks), kind))
        return halves

    left = interleaved(rows[0], rows[1], small)
    right = interleaved(rows[2], rows[3], small)
    return [words for pair in zip(left, right, strict=True) for words in interleaved(*pair, large)]
