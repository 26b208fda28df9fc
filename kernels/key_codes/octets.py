"""Whole-number products of queries with octets of 4-bit keys, in LLVM's vectors.

Thirty-two bytes hold four channels of eight tokens in their low halves, and the next four in
their high ones. An instruction that multiplies bytes and adds each four of them (``vpdpbusd``
of AVX-512 and AVX VNNI) then leaves eight tokens' sums in one register, and no sum crosses
lanes. AVX2 does it in three instructions, the last two of them once for eight; other CPUs do it in
plain ones. All results are the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.numba_helpers import cpu_has
from kernels.cpu.vector_code import INDEX, load, prefetch, shuffle

_BYTE, _WORD, _SUM = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_BYTES = ir.VectorType(_BYTE, 32)
_WORDS = ir.VectorType(_WORD, 16)
_SUMS = ir.VectorType(_SUM, 8)
_FLOATS = ir.VectorType(ir.FloatType(), 8)
_OCTETS_AHEAD = 8  # octets asked for beforehand
_CACHE_LINE = 64
_TOGETHER = 8  # steps of 32 bytes whose products are added up in 16 bits by AVX2


def best_products() -> str:
    """Return the fastest way to multiply bytes here: "vnni", "avx2" or "plain"."""
    if cpu_has("avxvnni") or (cpu_has("avx512vnni") and cpu_has("avx512vl")):
        return "vnni"
    return "avx2" if cpu_has("avx2") else "plain"


@intrinsic(prefer_literal=True)
def score_octet(context, codes, scales, line, queries, about, out, column, how):
    """out[v, column + t] = estimated score of token t of an octet, for every query v.

    Args:
        codes: [X, 4 D] uint8, an octet a row; scales: [X, 16] uint16 (``encode_keys``).
        line: int64, the octet.
        queries, about: [V, 8 D] int8 and [V, 2] float32, as ``spread_query`` leaves them.
        out: [V, ≥ column + 8] float32, rows contiguous.
        how: literal, of ``best_products`` or another that this CPU has.
    """
    number = types.int64
    signature = types.void(codes, scales, number, queries, about, out, number, how)
    variant = how.literal_value

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays = [target.make_array(sig.args[k])(target, builder, args[k]) for k in (0, 3, 5)]
        widths = [cgutils.unpack_tuple(builder, array.shape)[1] for array in arrays]
        height = cgutils.unpack_tuple(builder, arrays[1].shape)[0]
        code_data = builder.gep(arrays[0].data, [builder.mul(args[2], widths[0])])
        halves_of = target.make_array(sig.args[1])(target, builder, args[1])
        units = target.make_array(sig.args[4])(target, builder, args[4])
        row_bytes = cgutils.unpack_tuple(builder, arrays[2].strides)[0]
        scale, minimum = (
            _widened(
                builder, halves_of.data, builder.add(builder.mul(args[2], INDEX(16)), INDEX(n))
            )
            for n in (0, 8)
        )
        fifteen = ir.Constant(_BYTES, [15] * 32)
        four = ir.Constant(_BYTES, [4] * 32)
        zero = ir.Constant(_SUMS, [0] * 8)
        with cgutils.for_range(builder, height) as vectors:
            query = builder.gep(arrays[1].data, [builder.mul(vectors.index, widths[1])])
            totals = [cgutils.alloca_once(builder, _SUMS) for _ in range(2)]
            for total in totals:
                builder.store(zero, total)

            def add(begin: Any, end: Any, together: int, query: Any = query) -> None:
                """Take steps of 32 bytes into the totals, some at a time."""
                step = INDEX(32 * together)
                with cgutils.for_range_slice(builder, begin, end, step) as (at, _):
                    pairs = []
                    for n in range(together):
                        start = builder.add(at, INDEX(32 * n))
                        both = load(builder, code_data, start, 32, _BYTE)
                        halves = builder.and_(both, fifteen), builder.lshr(both, four)
                        place = builder.mul(start, INDEX(2))
                        places = place, builder.add(place, INDEX(32))
                        factors = [load(builder, query, at, 32, _BYTE) for at in places]
                        pairs.append(list(zip(halves, factors, strict=True)))
                    for half, total in enumerate(totals):
                        some = [pair[half] for pair in pairs]
                        more = _multiplied(builder, some, builder.load(total), variant)
                        builder.store(more, total)

            whole = builder.and_(widths[0], INDEX(-32 * _TOGETHER))
            add(INDEX(0), whole, _TOGETHER)
            add(whole, widths[0], 1)
            result = builder.add(builder.load(totals[0]), builder.load(totals[1]))
            first = builder.mul(vectors.index, INDEX(2))
            unit, total = (
                _repeated(builder, builder.load(builder.gep(units.data, [place])))
                for place in (first, builder.add(first, INDEX(1)))
            )
            score = builder.fmul(builder.sitofp(result, _FLOATS), scale)
            score = builder.fmul(builder.fadd(score, builder.fmul(total, minimum)), unit)
            start = builder.bitcast(arrays[2].data, _BYTE.as_pointer())
            start = builder.gep(start, [builder.mul(vectors.index, row_bytes)])
            start = builder.gep(start, [builder.mul(args[6], INDEX(4))])
            builder.store(score, builder.bitcast(start, _FLOATS.as_pointer()), align=4)
        return target.get_dummy_value()

    return signature, generate


def _widened(builder: Any, data: Any, place: Any) -> Any:
    """Eight bf16 bit patterns as float32."""
    halves = load(builder, data, place, 8, _WORD)
    wide = builder.zext(halves, _SUMS)
    return builder.bitcast(builder.shl(wide, ir.Constant(_SUMS, [16] * 8)), _FLOATS)


def _repeated(builder: Any, value: Any) -> Any:
    """One float32 eight times."""
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(_SUMS, [0] * 8))


def _multiplied(builder: Any, some: list[Any], total: Any, variant: str) -> Any:
    """``total`` plus, of each four neighbours, the sum of codes (0 to 15) times factors (int8).

    Args:
        some: at most ``_TOGETHER`` pairs of codes and factors.
    """
    if variant == "vnni":
        kind = ir.FunctionType(_SUMS, [_SUMS, _SUMS, _SUMS])
        name = "llvm.x86.avx512.vpdpbusd.256"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        for pair in some:
            total = builder.call(
                function, [total, *(builder.bitcast(part, _SUMS) for part in pair)]
            )
        return total
    if variant == "avx2":
        pairs = ir.FunctionType(_WORDS, [_BYTES, _BYTES])
        fours = ir.FunctionType(_SUMS, [_WORDS, _WORDS])
        first = cgutils.get_or_insert_function(builder.module, pairs, "llvm.x86.avx2.pmadd.ub.sw")
        then = cgutils.get_or_insert_function(builder.module, fours, "llvm.x86.avx2.pmadd.wd")
        words = ir.Constant(_WORDS, [0] * 16)
        for pair in some:  # each at most 2 · 15 · 127, and all at most 30,480: no saturation
            words = builder.add(words, builder.call(first, list(pair)))
        return builder.add(total, builder.call(then, [words, ir.Constant(_WORDS, [1] * 16)]))
    wide = ir.VectorType(_SUM, 32)
    for codes, factors in some:
        products = builder.mul(builder.zext(codes, wide), builder.sext(factors, wide))
        for lane in range(4):
            picks = ir.Constant(ir.VectorType(ir.IntType(32), 8), list(range(lane, 32, 4)))
            total = builder.add(total, builder.shuffle_vector(products, products, picks))
    return total


@intrinsic
def ask_for_octets(context, codes, line):
    """Ask for the octet some lines further on to be brought into the cache.

    Args:
        codes: [X, Y] of any type; the octet need not be there.
        line: int64.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = target.make_array(sig.args[0])(target, builder, args[0])
        width = cgutils.unpack_tuple(builder, array.shape)[1]
        place = builder.mul(builder.add(args[1], INDEX(_OCTETS_AHEAD)), width)
        start = builder.gep(array.data, [place])
        step = INDEX(_CACHE_LINE * 8 // sig.args[0].dtype.bitwidth)
        with cgutils.for_range_slice(builder, INDEX(0), width, step) as (at, _):
            prefetch(builder, builder.gep(start, [at]))
        return target.get_dummy_value()

    return types.void(codes, types.int64), generate


@intrinsic
def sum_octets(context, scores, row, first, count, out):
    """out[k] = Σ_t scores[row, first + 8 k + t], t below 8, for k below ``count``.

    Args:
        scores: [V, ≥ first + 8 · count] float32, contiguous.
        row, first, count: int64.
        out: [≥ count] float32, contiguous, overwritten.
    """
    number = types.int64

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, sums = (target.make_array(sig.args[k])(target, builder, args[k]) for k in (0, 4))
        width = cgutils.unpack_tuple(builder, array.shape)[1]
        start = builder.gep(array.data, [builder.add(builder.mul(args[1], width), args[2])])
        with cgutils.for_range(builder, args[3]) as eight:
            part = load(builder, start, builder.mul(eight.index, INDEX(8)), 8)
            for half in (4, 2):
                low, high = (
                    shuffle(builder, part, part, list(range(begin, begin + half)))
                    for begin in (0, half)
                )
                part = builder.fadd(low, high)
            both = [builder.extract_element(part, ir.IntType(32)(k)) for k in (0, 1)]
            total = builder.fadd(*both)
            builder.store(total, builder.gep(sums.data, [eight.index]))
        return target.get_dummy_value()

    return types.void(scores, number, number, number, out), generate
