"""Rows of weights added up in explicit vectors.

LLVM does not vectorise a loop over eight rows of bfloat16: one core of an AVX2 machine reads 4 GB/s
that way and 18 this way (fp32: 15 and 24). Narrower or wider vectors use the same loop, split or
joined.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels.cpu.vector_code import (
    INDEX,
    Matrix,
    fused,
    line_of,
    load,
    prefetch,
    smaller,
    splat,
    store,
)

STREAM_ROWS = 2
_STREAM_LANES = 16


@intrinsic
def stream_rows(context, matrix, rows, scales, at, out):
    """out[j] += Σ_k scales[first + k] · matrix[rows[first + k], offset + j], k below 2.

    Asks for two later rows meanwhile. The hardware does not foresee them, for
    each is short: two cores of an AVX-512 machine read 20 to 30 GB/s of a model's weights
    without asking, and 46 with it. More rows at once would save reading and writing ``out``,
    but memory answers few streams faster: with eight of them it gave a tenth less.

    Args:
        matrix: (array, offset): [X, Y] float32, or bfloat16 as uint16 bit patterns.
        rows: [n] int64.
        scales: [n] float32.
        at: first, int64, at most n − 2, and how many pairs later those are that it asks for.
        out: [J] float32, J ≤ Y − offset, changed.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, offset = cgutils.unpack_tuple(builder, args[0])
        weights = Matrix(target, builder, sig.args[0][0], array, offset)
        row_data, num_rows = line_of(target, builder, sig.args[1], args[1])
        scale_data, _ = line_of(target, builder, sig.args[2], args[2])
        out_data, length = line_of(target, builder, sig.args[4], args[4])
        first, ahead = cgutils.unpack_tuple(builder, args[3])
        entries = [builder.add(first, INDEX(k)) for k in range(STREAM_ROWS)]

        def starts_at(entries: list[Any]) -> list[Any]:
            return [weights.row(builder.load(builder.gep(row_data, [at]))) for at in entries]

        starts = starts_at(entries)
        last = builder.sub(num_rows, INDEX(1))
        distance = builder.mul(ahead, INDEX(STREAM_ROWS))
        later = [builder.add(entry, distance) for entry in entries]
        following = starts_at([smaller(builder, entry, last) for entry in later])
        factors = [builder.load(builder.gep(scale_data, [entry])) for entry in entries]

        def add(begin: Any, end: Any, step: int, lanes: int) -> None:
            spread = [splat(builder, factor, lanes) for factor in factors]
            with cgutils.for_range_slice(builder, begin, end, INDEX(step)) as (block, _):
                for start in following:
                    prefetch(builder, builder.gep(start, [block]))
                for column in range(0, step, lanes):
                    j = builder.add(block, INDEX(column))
                    # One chain in the rows' order: rows that are added times 0 change no bit.
                    total = load(builder, out_data, j, lanes)
                    for start, factor in zip(starts, spread, strict=True):
                        total = fused(builder, factor, weights.load(start, j, lanes), total)
                    store(builder, total, out_data, j, lanes)

        line = weights.per_line
        whole = builder.and_(length, INDEX(-line))
        add(INDEX(0), whole, line, _STREAM_LANES)
        add(whole, length, 1, 1)
        return target.get_dummy_value()

    return types.void(matrix, rows, scales, at, out), generate


@intrinsic
def prefetch_numbers(context, matrix, offset, count):
    """Prefetch ``count`` numbers from an offset on, which need not be there.

    Args:
        matrix: [X, D], rows next to each other; offset, count: int64.
    """

    def generate(target: Any, builder: Any, sig: Any, args: Any) -> Any:
        weights = Matrix.argument(target, builder, sig, args, 0)
        weights.prefetch(weights.at(args[1]), args[2])
        return target.get_dummy_value()

    return types.void(matrix, types.int64, types.int64), generate
