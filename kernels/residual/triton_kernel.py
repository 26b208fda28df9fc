"""Entering attention or MLP on CUDA: one pass over a row."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.activation_quantisation.triton_kernel import quantised
from kernels.gpu.triton_helpers import choose_largest, magnitude_order, narrowed, only_if


@triton.jit
def store_kept(
    numbers, order, kept, bits, output, channels, num_channels,
    PRUNED: tl.constexpr, LISTED: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Prune a row [N] fp32 by the order of its numbers, quantise, round and store it.

    Args:
        order: [N] uint32, 0 outside. kept, bits: scalars; all read if PRUNED.
        channels: int32, written if LISTED: the channels that are not 0, ascending.
    Returns: how many channels are listed; all if none are.
    """
    if PRUNED:
        chosen, _, _ = choose_largest(order, kept)
        numbers = quantised(tl.where(chosen, numbers, 0.0), bits, QUANT_BLOCK)
    numbers = narrowed(numbers, output.dtype.element_ty)
    channel = tl.arange(0, numbers.shape[0])
    inside = channel < num_channels
    tl.store(output + channel, numbers, mask=inside)
    count = num_channels
    if LISTED:
        used = ((numbers.to(tl.float32) != 0.0) & inside).to(tl.int32)
        tl.store(channels + tl.cumsum(used, 0) - 1, channel, mask=used > 0)
        count = tl.sum(used, 0)
    return count


@triton.jit
def enter_row(
    row, hidden, update, norm, channels_kept, bit_widths, stream, normed, channels,
    num_channels, epsilon, adding, norming, quantising, writing,
    BLOCK: tl.constexpr, PRUNED: tl.constexpr, LISTED: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of ``enter_rows``; ``normed`` and ``channels`` are its own lines, and the stream is
    written if ``writing``. Returns: as ``store_kept``."""
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    adds, norms = only_if(adding, inside), only_if(norming, inside)
    numbers = tl.load(hidden + at, mask=inside, other=0.0)
    numbers += tl.load(update + at, mask=adds, other=0.0).to(tl.float32)
    tl.store(stream + at, numbers, mask=only_if(writing, adds))
    scale = tl.sqrt_rn(tl.sum(numbers * numbers, 0) / num_channels + epsilon)
    weights = tl.load(norm + channel, mask=norms, other=1.0)
    numbers = tl.where(norms, numbers / scale, numbers) * weights
    kept, bits = 0, 16
    if PRUNED:
        kept = tl.load(channels_kept + row).to(tl.int32)
        bits = tl.load(bit_widths + row, mask=quantising != 0, other=16)
    order = magnitude_order(numbers, inside)
    return store_kept(
        numbers, order, kept, bits, normed, channels, num_channels, PRUNED, LISTED, QUANT_BLOCK
    )


@triton.jit(do_not_specialize=["epsilon", "adding", "norming", "quantising"])
def enter_rows(
    hidden, update, norm, channels_kept, bit_widths, stream, normed,
    num_channels, epsilon, adding, norming, quantising,
    BLOCK: tl.constexpr, PRUNED: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """hidden + update → stream; its RMS norm, pruned, then quantised → normed; [R, C] all of them.

    Args:
        hidden, stream: fp32; the stream is written where there is an update (``adding``).
        norm: [C] fp32, read if ``norming``.
        channels_kept: [R] int64, read if PRUNED; bit_widths: [R] int64, if ``quantising``, too.
    """
    row = tl.program_id(0)
    normed += row.to(tl.int64) * num_channels
    enter_row(
        row, hidden, update, norm, channels_kept, bit_widths, stream, normed, normed,
        num_channels, epsilon, adding, norming, quantising, 1, BLOCK, PRUNED, False, QUANT_BLOCK,
    )  # fmt: skip
