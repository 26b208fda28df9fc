"""The inner loop over quantised weights in LLVM's vectors: one block of one tile."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.numba_helpers import cpu_has
from kernels.cpu.vector_code import FLOAT, INDEX, fused, load, prefetch, splat, store, vector
from kernels.quantised_weights.layout import BLOCK, LINE_WORDS

__all__ = ["BLOCKS_AHEAD", "add_block"]

BLOCKS_AHEAD = 1  # 3 and 6 were no faster on an AVX2 machine
_WORD = ir.IntType(32)


@intrinsic(prefer_literal=True)
def add_block(context, data, place, listed, out, column, bits):
    """out[column + j] += Σ_i factors[i] · W[channels[i], j], of one block of one tile.

    A word holds numbers of several outputs. In each half of it they are masked, not shifted, and so
    count 2^(bits · k) times, which is taken back at the end: powers of two are exact, and an
    instruction is saved.

    Args:
        data: [n] uint8, 4-byte aligned; place: int64, where the block begins (``layout.py``).
        listed: channels [n] int64 within their blocks, factors [n] float32, [begin, end) of those
            to use, [begin, end) of those that the block ``BLOCKS_AHEAD`` further on will use, which
            are asked for, the used factors' sum float32, and words of a channel, 8 or 16.
        out: [≥ column + outputs] float32, changed.
        bits: literal, 4 or 8.
    """
    number = types.int64
    signature = types.void(data, number, listed, out, number, bits)
    width = bits.literal_value

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        bytes_ = target.make_array(sig.args[0])(target, builder, args[0]).data
        channels, factors, *span, total, words = cgutils.unpack_tuple(builder, args[2])
        channels = target.make_array(sig.args[2][0])(target, builder, channels).data
        factors = target.make_array(sig.args[2][1])(target, builder, factors).data
        out_data = target.make_array(sig.args[3])(target, builder, args[3]).data
        out_data = builder.gep(out_data, [args[4]])
        block = builder.gep(bytes_, [args[1]])
        _ask_ahead(builder, block, channels, span[2:], width, words)
        used = (channels, factors, *span[:2], total)
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


def _ask_ahead(builder: Any, block: Any, channels: Any, span: Any, bits: int, words: Any) -> None:
    """Ask for what a later block reads: its scales and minima, and the listed channels."""
    heads = builder.mul(words, INDEX(4 * 32 // bits))
    line = builder.mul(words, INDEX(4))
    whole = builder.add(heads, builder.mul(line, INDEX(BLOCK)))
    following = builder.gep(block, [builder.mul(whole, INDEX(BLOCKS_AHEAD))])
    with builder.if_then(builder.icmp_signed("<", *span)):
        with cgutils.for_range_slice(builder, INDEX(0), heads, INDEX(64)) as (at, _):
            prefetch(builder, builder.gep(following, [at]))
        following = builder.gep(following, [heads])
        with cgutils.for_range_slice(builder, *span, INDEX(1)) as (i, _):
            channel = builder.load(builder.gep(channels, [i]))
            prefetch(builder, builder.gep(following, [builder.mul(channel, line)]))


def _add(
    builder: Any, block: Any, listed: Any, out: Any, bits: int, words: Any, lanes: int
) -> None:
    """``add_block`` of so many lanes of the words at a time."""
    channels, factors, begin, end, total = listed
    per_word = 32 // bits
    outputs = builder.mul(words, INDEX(per_word))
    kind, wide = vector(_WORD, lanes), vector(FLOAT, lanes)
    # Behind scales and minima, two bytes each.
    first = builder.gep(block, [builder.mul(outputs, INDEX(4))])
    first = builder.bitcast(first, _WORD.as_pointer())
    sums = [cgutils.alloca_once(builder, wide) for _ in range(per_word)]
    with cgutils.for_range_slice(builder, INDEX(0), words, INDEX(lanes)) as (lane, _):
        for one in sums:
            builder.store(ir.Constant(wide, [0.0] * lanes), one)
        with cgutils.for_range_slice(builder, begin, end, INDEX(1)) as (i, _):
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
        spread = splat(builder, total, lanes)
        for k, one in enumerate(sums):
            at = builder.add(builder.mul(words, INDEX(k)), lane)
            scale = _half(builder, block, at, lanes)
            least = _half(builder, block, builder.add(at, outputs), lanes)
            power = ir.Constant(wide, [2.0 ** (-bits * (k % (per_word // 2)))] * lanes)
            before = load(builder, out, at, lanes)
            before = fused(builder, scale, builder.fmul(builder.load(one), power), before)
            store(builder, fused(builder, least, spread, before), out, at, lanes)


def _half(builder: Any, block: Any, index: Any, lanes: int) -> Any:
    data = builder.bitcast(block, ir.HalfType().as_pointer())
    pointer = builder.bitcast(builder.gep(data, [index]), vector(ir.HalfType(), lanes).as_pointer())
    return builder.fpext(builder.load(pointer, align=2), vector(FLOAT, lanes))
