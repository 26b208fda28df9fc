"""The inner loop over quantised weights in LLVM's vectors: one block of one tile."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.numba_helpers import cpu_has
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    Matrix,
    fused,
    load,
    prefetch,
    splat,
    store,
    vector,
)
from kernels.quantised_weights.layout import BLOCK, LINE_WORDS

_WORD = ir.IntType(32)


@intrinsic(prefer_literal=True)
def add_block(context, data, place, listed, row, out, column, bits):
    """out[row, column + j] += Σ_i factors[row, i] · W[channels[i], j], of one block of one tile.

    A word holds numbers of several outputs. In each half of it they are masked, not shifted, and so
    count 2^(bits · k) times, which is taken back at the end: powers of two are exact, and an
    instruction is saved.

    Args:
        data: [n] uint8, 4-byte aligned; place: int64, where the block begins (``layout.py``).
        listed: channels [n] int64 within their blocks, factors [R, n] float32, [begin, end) of
            those to use, [begin, end) of those that a later block will use, which are asked for
            one by one between the products (at once, they made the core wait: twice the time),
            the used factors' sum float32, words of a channel, 8 or 16, and how many blocks later.
        row: int64; a row, not a slice, which counts references.
        out: [R, ≥ column + outputs] float32, changed.
        bits: literal, 4 or 8.
    """
    number = types.int64
    signature = types.void(data, number, listed, number, out, number, bits)
    width = bits.literal_value

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        bytes_ = target.make_array(sig.args[0])(target, builder, args[0]).data
        channels, factors, *span, total, words, ahead = cgutils.unpack_tuple(builder, args[2])
        channels = target.make_array(sig.args[2][0])(target, builder, channels).data
        factors = Matrix(target, builder, sig.args[2][1], factors, INDEX(0)).row(args[3])
        out_data = Matrix.argument(target, builder, sig, args, 4).row(args[3])
        out_data = builder.gep(out_data, [args[5]])
        block = builder.gep(bytes_, [args[1]])
        used = (channels, factors, *span, ahead, total)
        if not cpu_has("avx512f"):
            _add(builder, block, used, out_data, width, words, 8)
            return target.get_dummy_value()
        whole = builder.icmp_signed("==", words, INDEX(LINE_WORDS))
        with builder.if_else(whole) as branches:
            for branch, lanes in zip(branches, (16, 8), strict=True):
                with branch:
                    _add(builder, block, used, out_data, width, words, lanes)
        return target.get_dummy_value()

    return signature, generate


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

    def ask_for_heads(self) -> None:
        builder = self._builder
        with (
            builder.if_then(builder.icmp_signed("<", self._begin, self._end)),
            cgutils.for_range_slice(builder, INDEX(0), self._heads, INDEX(64)) as (at, _),
        ):
            prefetch(builder, builder.gep(self._first, [at]), near=False)

    def ask_for(self, count: Any) -> None:
        """The channel after so many others of the block, if it has one."""
        place = self._builder.add(self._begin, count)
        with self._builder.if_then(self._builder.icmp_signed("<", place, self._end)):
            self._ask_for_place(place)

    def ask_for_rest(self, count: Any) -> None:
        """The channels after so many others."""
        begin = self._builder.add(self._begin, count)
        with cgutils.for_range_slice(self._builder, begin, self._end, INDEX(1)) as (place, _):
            self._ask_for_place(place)

    def _ask_for_place(self, place: Any) -> None:
        builder = self._builder
        channel = builder.load(builder.gep(self._channels, [place]))
        at = builder.add(self._heads, builder.mul(channel, self._line))
        prefetch(builder, builder.gep(self._first, [at]), near=False)


def _add(
    builder: Any, block: Any, listed: Any, out: Any, bits: int, words: Any, lanes: int
) -> None:
    """``add_block`` of so many lanes of the words at a time."""
    channels, factors, begin, end, *later_span, total = listed
    per_word = 32 // bits
    outputs = builder.mul(words, INDEX(per_word))
    kind, wide = vector(_WORD, lanes), vector(FLOAT, lanes)
    # Behind scales and minima, two bytes each.
    first = builder.gep(block, [builder.mul(outputs, INDEX(4))])
    first = builder.bitcast(first, _WORD.as_pointer())
    later = Later(builder, block, channels, later_span, bits, words)
    later.ask_for_heads()
    sums = [cgutils.alloca_once(builder, wide) for _ in range(per_word)]
    with cgutils.for_range_slice(builder, INDEX(0), words, INDEX(lanes)) as (lane, _):
        for partial in sums:
            builder.store(ir.Constant(wide, [0.0] * lanes), partial)
        with cgutils.for_range_slice(builder, begin, end, INDEX(1)) as (i, _):
            with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
                later.ask_for(builder.sub(i, begin))
            channel = builder.load(builder.gep(channels, [i]))
            factor = splat(builder, builder.load(builder.gep(factors, [i])), lanes)
            at = builder.add(builder.mul(channel, words), lane)
            low = load(builder, first, at, lanes, _WORD)
            halves = (low, builder.lshr(low, ir.Constant(kind, [16] * lanes)))
            for k, one in enumerate(sums):
                high, place = divmod(k, per_word // 2)
                mask = (2**bits - 1) << bits * place
                code = builder.and_(halves[high], ir.Constant(kind, [mask] * lanes))
                value = builder.sitofp(code, wide)
                builder.store(fused(builder, factor, value, builder.load(one)), one)
        with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
            later.ask_for_rest(builder.sub(end, begin))
        spread = splat(builder, total, lanes)
        for k, one in enumerate(sums):
            at = builder.add(builder.mul(words, INDEX(k)), lane)
            scale = half_precision(builder, block, at, lanes)
            least = half_precision(builder, block, builder.add(at, outputs), lanes)
            power = ir.Constant(wide, [2.0 ** (-bits * (k % (per_word // 2)))] * lanes)
            before = load(builder, out, at, lanes)
            before = fused(builder, scale, builder.fmul(builder.load(one), power), before)
            store(builder, fused(builder, least, spread, before), out, at, lanes)


def half_precision(builder: Any, block: Any, index: Any, lanes: int) -> Any:
    """Float16 numbers of a block from an index on, as float32."""
    data = builder.bitcast(block, ir.HalfType().as_pointer())
    pointer = builder.bitcast(builder.gep(data, [index]), vector(ir.HalfType(), lanes).as_pointer())
    return builder.fpext(builder.load(pointer, align=2), vector(FLOAT, lanes))
