"""A step of the online softmax in powers of two, whose weights are pairs of bfloat16.

Milakov and Gimelshein, arXiv:1805.02867. Weights that are rounded to eight bits need no more than
five terms of a power of two (3e-6 of it), which AVX-512 scales in one instruction.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kernels.causal_attention.pairs import LANES
from kernels.cpu.compiling import emitted
from kernels.cpu.numba_helpers import llvm_call
from kernels.cpu.vector_code import FLOAT, INDEX, Matrix, fused, line_of, load, splat, vector
from kernels.cpu.vector_softmax import largest_of, sum_of

_BITS = ir.IntType(32)
_NUMBERS = vector(FLOAT, LANES)
_LEAST = -150.0  # the power of two of what counts for nothing
# Of 2^x for |x| ≤ ½, from the highest power of x down.
_TERMS = (9.5701018e-3, 5.591786e-2, 2.4024745e-1, 6.9312181e-1, 9.9999926e-1)


@emitted()
def weigh_pairs(builder, scores, tops, totals, fades, weights):
    """Scores into weights 2^(score − top), for every row.

    Args:
        scores: [V, T] float32, T a multiple of 32, at most 256; −inf for none. NaN becomes NaN.
        tops: [V] float32, largest scores so far; changed.
        totals: [V] float32, sums of weights so far; changed.
        fades: [V] float32, overwritten with what older weights are now to be multiplied by.
        weights: [V, T / 2] uint32, overwritten: those of scores t and t + T / 2.
    """
    scores, weights = Matrix(scores), Matrix(weights)
    lines, half = [line_of(line)[0] for line in (tops, totals, fades)], weights.width
    with cgutils.for_range(builder, scores.height) as rows:
        row, out = scores.row(rows.index), weights.row(rows.index)
        top_at, total_at, fade_at = (builder.gep(line, [rows.index]) for line in lines)
        before, running = builder.load(top_at), cgutils.alloca_once(builder, _NUMBERS)
        builder.store(load(builder, row, INDEX(0), LANES), running)
        with cgutils.for_range_slice(builder, INDEX(0), scores.width, INDEX(LANES)) as (t, _):
            score, most = load(builder, row, t, LANES), builder.load(running)
            larger = builder.fcmp_ordered(">", score, most)
            builder.store(builder.select(larger, score, most), running)
        top = largest_of(builder, [builder.load(running)], before)
        faded = _powers(builder, splat(builder, builder.fsub(before, top), LANES))
        fade = builder.extract_element(faded, _BITS(0))
        builder.store(top, top_at)
        builder.store(fade, fade_at)
        spread = splat(builder, top, LANES)
        builder.store(ir.Constant(_NUMBERS, [0.0] * LANES), running)
        with cgutils.for_range_slice(builder, INDEX(0), half, INDEX(LANES)) as (t, _):
            low, high = (
                _powers(builder, builder.fsub(load(builder, row, column, LANES), spread))
                for column in (t, builder.add(t, half))
            )
            total = builder.fadd(builder.load(running), builder.fadd(low, high))
            builder.store(total, running)
            _store_pairs(builder, low, high, out, t)
        total = builder.fmul(builder.load(total_at), fade)
        builder.store(builder.fadd(total, sum_of(builder, builder.load(running))), total_at)


def _powers(builder: Any, x: Any) -> Any:
    """2^x of sixteen numbers that are at most 0."""

    def number(value: float) -> Any:
        return ir.Constant(_NUMBERS, [value] * LANES)

    x = builder.select(builder.fcmp_ordered("<", x, number(_LEAST)), number(_LEAST), x)
    whole = llvm_call(builder, f"llvm.rint.v{LANES}f32", _NUMBERS, [x])
    rest = builder.fsub(x, whole)
    value = number(_TERMS[0])
    for term in _TERMS[1:]:
        value = fused(builder, value, rest, number(term))
    scaled = [value, whole, value, ir.IntType(16)(0xFFFF), _BITS(4)]
    return llvm_call(builder, "llvm.x86.avx512.mask.scalef.ps.512", _NUMBERS, scaled)


def _store_pairs(builder: Any, low: Any, high: Any, line: Any, column: Any) -> None:
    """Store numbers as pairs of bfloat16, rounded half up: no sum depends on ties here."""
    whole = vector(_BITS, LANES)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [value] * LANES)

    low, high = (builder.add(builder.bitcast(x, whole), integer(0x8000)) for x in (low, high))
    low = builder.lshr(low, integer(16))
    both = builder.or_(low, builder.and_(high, integer(0xFFFF0000)))
    pointer = builder.bitcast(builder.gep(line, [column]), whole.as_pointer())
    builder.store(both, pointer, align=4)
