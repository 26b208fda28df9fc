"""Pairs of bfloat16 as CPUs multiply them: products of matrices, and a softmax that makes pairs.

AVX-512's ``vdpbf16ps`` multiplies vectors of sixteen pairs, a matrix unit (AMX) tiles of
sixteen such rows. The softmax is a step of the online one (Milakov and Gimelshein,
arXiv:1805.02867) in powers of two. Weights that are rounded to eight bits need no more than five
terms of a power of two (3e-6 of it), which AVX-512 scales in one instruction.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache, partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from kernels.cpu.compiling import emitted
from kernels.cpu.numba_helpers import cpu_has, llvm_call
from kernels.cpu.vector_code import (
    FLOAT,
    INDEX,
    Matrix,
    constant,
    fused,
    in_turns,
    line_of,
    load,
    splat,
    store,
    vector,
)
from kernels.cpu.vector_softmax import largest_of, sum_of

LANES = 16  # pairs in a vector, and in a row of a tile
COLUMNS = 4 * LANES  # what widths must be multiples of
ROWS = 16  # of a tile; what heights must be multiples of
_ROWS_TOGETHER = 6  # whose sums of four vectors fit into 32 registers
_TILES_TOGETHER = 3  # of sums and of the left matrix; a seventh holds the right one
_PAIR, _BYTE = ir.IntType(32), ir.IntType(8)
_PRODUCTS = "llvm.x86.avx512bf16.dpbf16ps.512"
_NUMBERS = vector(FLOAT, LANES)
_LEAST = -150.0  # the power of two of what counts for nothing
# Of 2^x for |x| ≤ ½, from the highest power of x down.
_TERMS = (9.5701018e-3, 5.591786e-2, 2.4024745e-1, 6.9312181e-1, 9.9999926e-1)
_XTILEDATA, _REQUEST, _ARCH_PRCTL = 18, 0x1023, 158  # of Linux on x86-64


@cache
def has_tiles() -> bool:
    """Return whether this process may use a matrix unit, which Linux has it ask for."""
    if not cpu_has("amx-bf16") or sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _XTILEDATA) == 0)


@emitted()
def multiply_pairs(builder, left, right, fades, out, shapes):
    """out[v, n] = fades[v] · out[v, n] + Σ_k left[v, k] · right[k, n], of two products each.

    Args:
        left: [V, K] uint32, two bfloat16 each; V and K multiples of 16.
        right: [K, N] uint32 likewise; N a multiple of 64.
        fades: [V] float32; None overwrites ``out``.
        out: [V, N] float32, changed.
        shapes: of a matrix unit that ``use_tiles`` has prepared; None multiplies by vectors.
    """
    emit = _by_vectors if shapes.kind == types.none else _by_tiles
    left, right, out = map(Matrix, (left, right, out))
    faded = None if fades.kind == types.none else fades.array().data
    emit(builder, left, right, faded, out)


def _by_vectors(builder: Any, left: Matrix, right: Matrix, faded: Any, out: Matrix) -> None:
    def together(v: Any, number: int) -> None:
        rows = [builder.add(v, INDEX(k)) for k in range(number)]
        factors, sums = ([m.row(row) for row in rows] for m in (left, out))
        with cgutils.for_range_slice(builder, INDEX(0), right.width, INDEX(COLUMNS)) as (n, _):
            columns = [builder.add(n, INDEX(k)) for k in range(0, COLUMNS, LANES)]
            totals = [
                [_begun(builder, faded, row, line, column) for column in columns]
                for row, line in zip(rows, sums, strict=True)
            ]
            with cgutils.for_range_slice(builder, INDEX(0), left.width, INDEX(1)) as (k, _):
                line = right.row(k)
                pairs = [load(builder, line, column, LANES, _PAIR) for column in columns]
                for factor, some in zip(factors, totals, strict=True):
                    both = splat(builder, builder.load(builder.gep(factor, [k])), LANES)
                    for pair, total in zip(pairs, some, strict=True):
                        given = [builder.load(total), both, pair]
                        builder.store(llvm_call(builder, _PRODUCTS, _NUMBERS, given), total)
            for line, some in zip(sums, totals, strict=True):
                for column, total in zip(columns, some, strict=True):
                    store(builder, builder.load(total), line, column, LANES)

    in_turns(builder, left.height, _ROWS_TOGETHER, together)


def _begun(builder: Any, faded: Any, row: Any, line: Any, column: Any) -> Any:
    """A sum as it begins: nothing, or what was there, faded."""
    total = cgutils.alloca_once(builder, vector(FLOAT, LANES))
    value = constant(FLOAT, LANES, 0.0)
    if faded is not None:
        fade = splat(builder, builder.load(builder.gep(faded, [row])), LANES)
        value = builder.fmul(fade, load(builder, line, column, LANES))
    builder.store(value, total)
    return total


@emitted()
def use_tiles(builder, shapes):
    """Prepare this thread's matrix unit: eight tiles of sixteen rows of sixteen pairs.

    Args:
        shapes: [64] uint8, ``tile_shapes()``; None does nothing.
    """
    if shapes.kind != types.none:
        data = builder.bitcast(shapes.array().data, _BYTE.as_pointer())
        _call_tiles(builder, "ldtilecfg", data)


@emitted()
def leave_tiles(builder, shapes):
    """Give this thread's matrix unit back; shapes as of ``use_tiles``."""
    if shapes.kind != types.none:
        _call_tiles(builder, "tilerelease")


def _by_tiles(builder: Any, left: Matrix, right: Matrix, faded: Any, out: Matrix) -> None:
    if faded is not None:
        with cgutils.for_range(builder, left.height) as rows:
            line = out.row(rows.index)
            with cgutils.for_range_slice(builder, INDEX(0), out.width, INDEX(LANES)) as (n, _):
                total = _begun(builder, faded, rows.index, line, n)
                store(builder, builder.load(total), line, n, LANES)

    def together(tile: Any, number: int) -> None:
        rows = [builder.mul(builder.add(tile, INDEX(k)), INDEX(ROWS)) for k in range(number)]
        factors, sums = ([m.row(row) for row in rows] for m in (left, out))
        with cgutils.for_range_slice(builder, INDEX(0), right.width, INDEX(LANES)) as (n, _):
            for which, line in enumerate(sums):
                if faded is None:
                    _call_tiles(builder, "tilezero", which)
                else:
                    _move_tile(builder, "tileloadd64", which, line, n, out)
            with cgutils.for_range_slice(builder, INDEX(0), left.width, INDEX(LANES)) as (k, _):
                _move_tile(builder, "tileloadd64", 6, right.row(k), n, right)
                for which, line in enumerate(factors):
                    _move_tile(builder, "tileloadd64", 3 + which, line, k, left)
                    _call_tiles(builder, "tdpbf16ps", which, 3 + which, 6)
            for which, line in enumerate(sums):
                _move_tile(builder, "tilestored64", which, line, n, out)

    tiles = builder.sdiv(left.height, INDEX(ROWS))
    in_turns(builder, tiles, _TILES_TOGETHER, together)


def _move_tile(builder: Any, name: str, tile: int, line: Any, column: Any, matrix: Matrix) -> None:
    """Load or store a tile whose first number is in a column of a line."""
    start = builder.bitcast(builder.gep(line, [column]), _BYTE.as_pointer())
    _call_tiles(builder, name, tile, start, builder.mul(matrix.stride, INDEX(4)))


def _call_tiles(builder: Any, name: str, *arguments: Any) -> None:
    """Call an instruction of the matrix unit; plain numbers are tiles."""
    values = [_BYTE(value) if isinstance(value, int) else value for value in arguments]
    llvm_call(builder, f"llvm.x86.{name}", ir.VoidType(), values)


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
        fade = builder.extract_element(faded, _PAIR(0))
        builder.store(top, top_at)
        builder.store(fade, fade_at)
        spread = splat(builder, top, LANES)
        builder.store(constant(FLOAT, LANES, 0.0), running)
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
    number = partial(constant, FLOAT, LANES)
    x = builder.select(builder.fcmp_ordered("<", x, number(_LEAST)), number(_LEAST), x)
    whole = llvm_call(builder, f"llvm.rint.v{LANES}f32", _NUMBERS, [x])
    rest = builder.fsub(x, whole)
    value = number(_TERMS[0])
    for term in _TERMS[1:]:
        value = fused(builder, value, rest, number(term))
    scaled = [value, whole, value, ir.IntType(16)(0xFFFF), _PAIR(4)]
    return llvm_call(builder, "llvm.x86.avx512.mask.scalef.ps.512", _NUMBERS, scaled)


def _store_pairs(builder: Any, low: Any, high: Any, line: Any, column: Any) -> None:
    """Store numbers as pairs of bfloat16, rounded half up: no sum depends on ties here."""
    whole, integer = vector(_PAIR, LANES), partial(constant, _PAIR, LANES)
    low, high = (builder.add(builder.bitcast(x, whole), integer(0x8000)) for x in (low, high))
    low = builder.lshr(low, integer(16))
    both = builder.or_(low, builder.and_(high, integer(0xFFFF0000)))
    pointer = builder.bitcast(builder.gep(line, [column]), whole.as_pointer())
    builder.store(both, pointer, align=4)
