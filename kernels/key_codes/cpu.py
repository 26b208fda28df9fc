"""4-bit keys on the CPU: keys encoded, queries rounded, and their products in whole numbers.

The definition's numbers, bit for bit. Thirty-two bytes hold four channels of eight tokens in their
low halves, and the next four in their high ones. An instruction that multiplies bytes and adds each
four of them (``vpdpbusd`` of AVX-512 and AVX VNNI) then leaves eight tokens' sums in one register,
and no sum crosses lanes; AVX-512 takes two octets at once. AVX2 does it in three instructions, the
last two of them once for eight; other CPUs do it in plain ones. All results are the same.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kernels.cpu.compiling import emitted, helper, team_kernel
from kernels.cpu.numba_helpers import TO_EVEN, cpu_has, llvm_call, narrow, widen
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    INTEGERS,
    Matrix,
    in_turns,
    load,
    prefetch,
    shuffle,
    splat,
    store,
    vector,
    widened,
)
from kernels.key_codes import HIGHEST_CODE, HIGHEST_QUERY, LEAST_SCALE, OCTET

_CODE, _QUERY, _LEAST = np.float32(HIGHEST_CODE), np.float32(HIGHEST_QUERY), np.float32(LEAST_SCALE)
_BYTE, _WORD, _SUM = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_LINE = 32  # bytes that hold eight channels of an octet's tokens
AHEAD = 16  # octets from those that are read to those that are prefetched
_TOGETHER = 4  # octets that AVX-512 takes at once: queries are loaded once for them
_LINES_TOGETHER = 4  # whose products AVX2 adds up in 16 bits
_HEADS_TOGETHER = 3  # for whom codes are unpacked once


@helper
def encode_key(keys, line, codes, scales, octet, token):
    """Write one token's codes, scale and minimum.

    Args:
        keys: [X, D], stored keys; ``line`` is the token's.
        codes: [Y, 4 D] uint8; scales: [Y, 16] uint16, bf16 bit patterns; both changed.
        octet: row of the two; token: 0 to 7.
    """
    size = keys.shape[1]
    low = high = widen(keys[line, 0])
    for d in range(1, size):
        value = widen(keys[line, d])
        low, high = min(low, value), max(high, value)
    scales[octet, OCTET + token] = narrow(low, scales)
    low = widen(scales[octet, OCTET + token])
    scales[octet, token] = narrow((high - low) / _CODE, scales)
    scale = max(widen(scales[octet, token]), _LEAST)
    for block in range(size // OCTET):
        for channel in range(4):
            at = OCTET * block + channel
            first = np.rint((widen(keys[line, at]) - low) / scale)
            second = np.rint((widen(keys[line, at + 4]) - low) / scale)
            first = min(max(first, np.float32(0.0)), _CODE)
            second = min(max(second, np.float32(0.0)), _CODE)
            byte = np.uint8(first) | np.uint8(np.uint8(second) << np.uint8(4))
            codes[octet, 32 * block + 4 * token + channel] = byte


@team_kernel
def encode_range(keys, codes, scales, start, end):
    """``encode_tokens``.

    Args:
        keys: [R, H, S, D] float32, or bf16 as uint16 bit patterns.
        codes: [R, H, O, 4 D] uint8; scales: [R, H, O, 16] uint16, bf16 bit patterns; both changed.
    """
    heads, first, last = keys.shape[1], start // OCTET, (end + OCTET - 1) // OCTET
    for task in numba.prange(keys.shape[0] * heads * (last - first)):
        pair, octet = task // (last - first), first + task % (last - first)
        row, head = pair // heads, pair % heads
        for token in range(min(OCTET, keys.shape[2] - OCTET * octet)):
            line = OCTET * octet + token
            encode_key(keys[row, head], line, codes[row, head], scales[row, head], octet, token)


@helper
def round_rows(queries, rounded, units):
    """Queries in whole numbers.

    Args:
        queries: [V, D] float32, contiguous.
        rounded: [V, D] int8, overwritten.
        units: [V, 2] float32, overwritten: what 1 stands for, and the sum of the whole numbers.
    """
    bits, size = queries.view(np.uint32), np.uint64(queries.shape[1])
    for v in range(queries.shape[0]):
        largest = np.uint32(0)
        for d in range(size):
            largest = max(largest, np.uint32(bits[v, d] & np.uint32(0x7FFFFFFF)))
        unit = max(np.uint32(largest).view(np.float32) / _QUERY, _LEAST)
        total = np.int32(0)
        for d in range(size):
            number = np.int32((queries[v, d] / unit + TO_EVEN) - TO_EVEN)  # at most 127 in size
            total = np.int32(total + number)
            rounded[v, d] = np.int8(number)
        units[v, 0], units[v, 1] = unit, np.float32(total)


def best_products() -> str:
    """Return the fastest way to multiply bytes here: "wide", "vnni", "avx2" or "plain"."""
    if cpu_has("avx512vnni") and cpu_has("avx512vl") and cpu_has("avx512bw"):
        return "wide"
    if cpu_has("avxvnni"):
        return "vnni"
    return "avx2" if cpu_has("avx2") else "plain"


class _Octets(NamedTuple):
    """Octets of keys, and queries, in generated code."""

    codes: Any  # pointer to the bytes of a stretch's first octet
    scales: Any  # and to its bf16 bit patterns
    lines: Any  # of 32 bytes, in an octet
    queries: Matrix  # int8 [V, D]
    units: Matrix  # float32 [V, 2]
    out: Matrix  # float32 [V, n]
    variant: str  # how bytes are multiplied


@emitted(stretch=INTEGERS, prefer_literal=True)
def score_octets(builder, codes, scales, stretch, queries, units, out, how):
    """out[v, 8 n + t] = estimated score of token t of a stretch's octet n, for every query v.

    Args:
        codes: [X, 4 D] uint8, an octet a row; scales: [X, 16] uint16 (``encode_keys``).
        stretch: int64 first octet, and how many there are.
        queries, units: [V, D] int8 and [V, 2] float32, as ``round_rows`` leaves them.
        out: [V, ≥ 8 · count] float32, overwritten.
        how: literal, of ``best_products`` or another that this CPU has.
    """
    first, count = cgutils.unpack_tuple(builder, stretch.value)
    code_array, scale_array = codes.array(), scales.array()
    row_bytes = cgutils.unpack_tuple(builder, code_array.shape)[1]
    rounded, unit_rows, scores = map(Matrix, (queries, units, out))
    octets = _Octets(
        codes=builder.gep(code_array.data, [builder.mul(first, row_bytes)]),
        scales=builder.gep(scale_array.data, [builder.mul(first, INDEX(2 * OCTET))]),
        lines=builder.udiv(row_bytes, INDEX(_LINE)),
        queries=rounded,
        units=unit_rows,
        out=scores,
        variant=how.kind.literal_value,
    )
    begin = INDEX(0)
    for together in (_TOGETHER, 1) if octets.variant == "wide" else (1,):
        end, step = builder.and_(count, INDEX(-together)), INDEX(together)
        with cgutils.for_range_slice(builder, begin, end, step) as (octet, _):
            _prefetch_octets(builder, octets, octet, together)
            _score(builder, octets, octet, together)
        begin = end


def _prefetch_octets(builder: Any, octets: _Octets, octet: Any, together: int) -> None:
    """Prefetch the octets some further on, which need not be there."""
    later = builder.add(octet, INDEX(AHEAD))
    row_bytes = builder.mul(octets.lines, INDEX(_LINE))
    start = builder.gep(octets.codes, [builder.mul(later, row_bytes)])
    end = builder.mul(row_bytes, INDEX(together))
    with cgutils.for_range_slice(builder, INDEX(0), end, INDEX(64)) as (at, _):
        prefetch(builder, builder.gep(start, [at]))
    prefetch(builder, builder.gep(octets.scales, [builder.mul(later, INDEX(2 * OCTET))]))


def _score(builder: Any, octets: _Octets, octet: Any, together: int) -> None:
    """The scores of so many octets, for all queries; two octets in a register if they are more
    than one."""
    row_bytes = builder.mul(octets.lines, INDEX(_LINE))
    indices = [builder.add(octet, INDEX(k)) for k in range(together)]
    groups = [indices[k : k + 2] for k in range(0, together, 2)]
    tokens = OCTET * len(groups[0])
    starts = [
        [builder.gep(octets.codes, [builder.mul(index, row_bytes)]) for index in group]
        for group in groups
    ]
    scales = [[_scales(builder, octets.scales, g, part) for part in (0, 1)] for g in groups]
    whole = builder.and_(octets.lines, INDEX(-_LINES_TOGETHER))
    zero = ir.Constant(vector(_SUM, tokens), [0] * tokens)

    def heads_together(v: Any, number: int) -> None:
        heads = [builder.add(v, INDEX(k)) for k in range(number)]
        rows = [builder.bitcast(octets.queries.row(h), _SUM.as_pointer()) for h in heads]
        totals = [[cgutils.alloca_once(builder, zero.type) for _ in groups] for _ in heads]
        for total in itertools.chain(*totals):
            builder.store(zero, total)

        def add(begin: Any, end: Any, lines: int) -> None:
            with cgutils.for_range_slice(builder, begin, end, INDEX(lines)) as (line, _):
                steps = range(2 * lines)
                at = [builder.add(line, INDEX(n)) for n in range(lines)]
                halves = [[_halves(builder, start, index) for index in at] for start in starts]
                first = builder.mul(line, INDEX(2))
                fours = [builder.add(first, INDEX(n)) for n in steps]
                for row, sums in zip(rows, totals, strict=True):
                    numbers = [builder.load(builder.gep(row, [p]), align=1) for p in fours]
                    spread = [splat(builder, number, tokens) for number in numbers]
                    for some, total in zip(halves, sums, strict=True):
                        pairs = list(zip(itertools.chain(*some), spread, strict=True))
                        more = _multiplied(builder, pairs, builder.load(total), octets.variant)
                        builder.store(more, total)

        add(INDEX(0), whole, _LINES_TOGETHER)
        add(whole, octets.lines, 1)
        firsts = [group[0] for group in groups]
        for head, sums in zip(heads, totals, strict=True):
            _store_scores(builder, octets, head, list(zip(firsts, sums, scales, strict=True)))

    in_turns(builder, octets.queries.height, _HEADS_TOGETHER, heads_together)


def _store_scores(builder: Any, octets: _Octets, head: Any, groups: list[Any]) -> None:
    """A head's scores of some groups: the first octet, sums of products, scale and minimum."""
    kind = groups[0][1].type.pointee
    unit_row = octets.units.row(head)
    numbers = [builder.load(builder.gep(unit_row, [INDEX(k)])) for k in range(2)]
    unit, query_sum = (splat(builder, number, kind.count) for number in numbers)
    for first, total, (scale, minimum) in groups:
        products = builder.sitofp(builder.load(total), vector(FLOAT, kind.count))
        offset = builder.fmul(query_sum, minimum)
        score = builder.fmul(builder.fadd(builder.fmul(products, scale), offset), unit)
        column = builder.mul(first, INDEX(OCTET))
        store(builder, score, octets.out.row(head), column, kind.count)


def _halves(builder: Any, starts: list[Any], line: Any) -> tuple[Any, Any]:
    """A line of each octet: its low and its high halves, as bytes."""
    parts = [
        load(builder, start, builder.mul(line, INDEX(_LINE)), _LINE, _BYTE) for start in starts
    ]
    both = _side_by_side(builder, parts)
    kind = both.type
    fifteen, four = (ir.Constant(kind, [n] * kind.count) for n in (15, 4))
    return builder.and_(both, fifteen), builder.lshr(both, four)


def _scales(builder: Any, data: Any, octets: list[Any], part: int) -> Any:
    """Scales (0) or minima (1) of octets, bf16 bit patterns as float32."""
    begins = [builder.add(builder.mul(o, INDEX(2 * OCTET)), INDEX(OCTET * part)) for o in octets]
    halves = _side_by_side(builder, [load(builder, data, at, OCTET, _WORD) for at in begins])
    return widened(builder, halves, halves.type.count)


def _side_by_side(builder: Any, parts: list[Any]) -> Any:
    """One or two vectors as one."""
    if len(parts) == 1:
        return parts[0]
    return shuffle(builder, *parts, list(range(2 * parts[0].type.count)))


def _multiplied(builder: Any, some: list[Any], total: Any, variant: str) -> Any:
    """``total`` plus, of each four neighbours, the sum of codes (0 to 15) times factors (int8).

    Args:
        some: at most eight pairs of codes, as bytes, and factors, four in a number.
    """
    sums, tokens = total.type, total.type.count
    bytes_, words = vector(_BYTE, 4 * tokens), vector(_WORD, 2 * tokens)
    if variant in ("wide", "vnni"):
        name = f"llvm.x86.avx512.vpdpbusd.{32 * tokens}"
        for codes, factors in some:
            total = llvm_call(builder, name, sums, [total, builder.bitcast(codes, sums), factors])
        return total
    if variant == "avx2":
        added = ir.Constant(words, [0] * words.count)
        for codes, factors in some:  # each ≤ 2 · 15 · 127, and all ≤ 30,480: no saturation
            both = [codes, builder.bitcast(factors, bytes_)]
            added = builder.add(added, llvm_call(builder, "llvm.x86.avx2.pmadd.ub.sw", words, both))
        ones = ir.Constant(words, [1] * words.count)
        return builder.add(total, llvm_call(builder, "llvm.x86.avx2.pmadd.wd", sums, [added, ones]))
    wide = vector(_SUM, 4 * tokens)
    for codes, factors in some:
        signed = builder.sext(builder.bitcast(factors, bytes_), wide)
        products = builder.mul(builder.zext(codes, wide), signed)
        for lane in range(4):
            picks = list(range(lane, 4 * tokens, 4))
            total = builder.add(total, shuffle(builder, products, products, picks))
    return total
