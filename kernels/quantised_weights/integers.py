"""The inner loop over 4-bit weights times 8-bit activations, in integers: one block of one tile.

Four listed channels at a time: their lines are interleaved byte by byte in registers, so that a
dot product of four bytes (VNNI's ``vpdpbusd``, or AVX2's two multiply-adds) sums them. For 128
outputs of four channels that is 24 instructions, where ``vectors.py`` has 104.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.numba_helpers import cpu_has
from kernels.cpu.vector_code import FLOAT, INDEX, Matrix, fused, load, shuffle, splat, store, vector
from kernels.quantised_weights.layout import LINE_WORDS
from kernels.quantised_weights.vectors import Later, half_precision

MOST_BITS = 8  # of an activation
CHANNELS = 4  # that are summed at once
_VNNI = cpu_has("avx512vnni") and cpu_has("avx512vl")
HAS_INTEGERS = _VNNI or cpu_has("avx2")  # ARM's dot products are not used: floats are
_BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@intrinsic
def add_integers(context, data, place, listed, row, out, column):
    """out[row, column + j] += step · Σ_i levels[row, i] · W[channels[i], j], of one block of one
    tile of 4 bits; within the block the sum is exact.

    Args:
        data, place, row, out, column: as of ``add_block``.
        listed: channels [n] int64 within their blocks, in fours, levels [R, n] int8, [begin, end)
            of those to use and of those that a later block will use, the sum of step · levels
            float32, step float32, words of a channel, 8 or 16, and how many blocks later.
    """
    number = types.int64
    signature = types.void(data, number, listed, number, out, number)

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not HAS_INTEGERS:  # never called then, but compiled
            return target.get_dummy_value()
        bytes_ = target.make_array(sig.args[0])(target, builder, args[0]).data
        channels, levels, *span, total, step, words, ahead = cgutils.unpack_tuple(builder, args[2])
        channels = target.make_array(sig.args[2][0])(target, builder, channels).data
        levels = target.make_array(sig.args[2][1])(target, builder, levels)
        stride = cgutils.unpack_tuple(builder, levels.strides)[0]
        levels = builder.gep(levels.data, [builder.mul(args[3], stride)])
        out_data = Matrix.argument(target, builder, sig, args, 4).row(args[3])
        out_data = builder.gep(out_data, [args[5]])
        block = builder.gep(bytes_, [args[1]])
        used = (channels, levels, *span, ahead, total, step)
        if not _VNNI:
            _add(builder, block, used, out_data, words, 8)
            return target.get_dummy_value()
        whole = builder.icmp_signed("==", words, INDEX(LINE_WORDS))
        with builder.if_else(whole) as branches:
            for branch, lanes in zip(branches, (16, 8), strict=True):
                with branch:
                    _add(builder, block, used, out_data, words, lanes)
        return target.get_dummy_value()

    return signature, generate


def _add(builder: Any, block: Any, listed: Any, out: Any, words: Any, lanes: int) -> None:
    """``add_integers`` of so many lanes of the words at a time."""
    channels, levels, begin, end, *later_span, total, step = listed
    outputs = builder.mul(words, INDEX(8))
    first = builder.gep(block, [builder.mul(outputs, INDEX(4))])
    first = builder.bitcast(first, _WORD.as_pointer())
    later = Later(builder, block, channels, later_span, 4, words)
    later.ask_for_heads()
    zero = ir.Constant(vector(_WORD, lanes), [0] * lanes)
    sums = [cgutils.alloca_once(builder, zero.type) for _ in range(8)]
    with cgutils.for_range_slice(builder, INDEX(0), words, INDEX(lanes)) as (lane, _):
        for place in sums:
            builder.store(zero, place)
        with cgutils.for_range_slice(builder, begin, end, INDEX(CHANNELS)) as (i, _):
            lines = []
            for k in range(CHANNELS):
                at = builder.add(i, INDEX(k))
                with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
                    later.ask_for(builder.sub(at, begin))
                channel = builder.load(builder.gep(channels, [at]))
                place = builder.add(builder.mul(channel, words), lane)
                lines.append(load(builder, first, place, lanes, _WORD))
            four = builder.bitcast(builder.gep(levels, [i]), _WORD.as_pointer())
            factors = splat(builder, builder.load(four, align=1), lanes)
            for k, codes in enumerate(_transposed(builder, lines, _BYTE, _SHORT)):
                for sum_, plane in zip(sums[k::4], _planes(builder, codes), strict=True):
                    product = _dot(builder, builder.load(sum_), plane, factors)
                    builder.store(product, sum_)
        with builder.if_then(builder.icmp_signed("==", lane, INDEX(0))):
            later.ask_for_rest(builder.sub(end, begin))
        spread = splat(builder, total, lanes)
        for high in range(2):
            power = FLOAT(1 / 16 if high and _VNNI else 1.0)
            factor = splat(builder, builder.fmul(step, power), lanes)
            loaded = [builder.load(place) for place in sums[4 * high : 4 * high + 4]]
            for byte, dots in enumerate(_transposed(builder, loaded, _WORD, _LONG)):
                at = builder.add(builder.mul(words, INDEX(2 * byte + high)), lane)
                value = builder.fmul(builder.sitofp(dots, factor.type), factor)
                scale = half_precision(builder, block, at, lanes)
                least = half_precision(builder, block, builder.add(at, outputs), lanes)
                before = fused(builder, scale, value, load(builder, out, at, lanes))
                store(builder, fused(builder, least, spread, before), out, at, lanes)


def _planes(builder: Any, codes: Any) -> tuple[Any, Any]:
    """The low and the high numbers of all bytes; with VNNI, whose sums have room, the high ones
    count 16 times: that saves a shift."""
    lanes = codes.type.count

    def masked(words: Any, mask: int) -> Any:
        return builder.and_(words, ir.Constant(codes.type, [mask] * lanes))

    if _VNNI:
        return masked(codes, 0x0F0F0F0F), masked(codes, 0xF0F0F0F0)
    shifted = builder.lshr(codes, ir.Constant(codes.type, [4] * lanes))
    return masked(codes, 0x0F0F0F0F), masked(shifted, 0x0F0F0F0F)


def _dot(builder: Any, total: Any, codes: Any, factors: Any) -> Any:
    """Words plus the dot products of their four unsigned and four signed bytes."""
    lanes, words = total.type.count, total.type
    if _VNNI:
        return _call(builder, f"avx512.vpdpbusd.{32 * lanes}", words, [total, codes, factors])
    narrow, pairs = vector(_BYTE, 4 * lanes), vector(_SHORT, 2 * lanes)
    given = [builder.bitcast(words, narrow) for words in (codes, factors)]
    # Of two products of at most 15 · 127 each: no sum saturates.
    sums = _call(builder, "avx2.pmadd.ub.sw", pairs, given)
    ones = ir.Constant(pairs, [1] * (2 * lanes))
    return builder.add(total, _call(builder, "avx2.pmadd.wd", words, [sums, ones]))


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    return builder.call(function, arguments)


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
