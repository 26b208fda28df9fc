"""Entering attention or MLP on CUDA: one pass over a row."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.activation_quantisation.triton_kernel import quantised
from kernels.gpu.triton_helpers import largest_only, narrowed, only_if


@triton.jit(do_not_specialize=["epsilon", "adding", "norming", "quantising"])
def enter_rows(
    hidden, update, norm, channels_kept, bit_widths, stream, normed, channels, counts,
    num_channels, epsilon, adding, norming, quantising,
    BLOCK: tl.constexpr, PRUNED: tl.constexpr, LISTED: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """hidden + update → stream; its RMS norm, pruned, then quantised → normed; [R, C] all of them.

    Args:
        hidden, stream: fp32; the stream is written where there is an update (``adding``).
        norm: [C] fp32, read if ``norming``.
        channels_kept: [R] int64, read if PRUNED; bit_widths: [R] int64, if ``quantising``, too.
        channels: [1, C] int32, counts: [1] int32; written if LISTED, for a single row: its
            channels that are not 0, ascending.
    """
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    adds, norms = only_if(adding, inside), only_if(norming, inside)
    numbers = tl.load(hidden + at, mask=inside, other=0.0)
    numbers += tl.load(update + at, mask=adds, other=0.0).to(tl.float32)
    tl.store(stream + at, numbers, mask=adds)
    scale = tl.sqrt_rn(tl.sum(numbers * numbers, 0) / num_channels + epsilon)
    weights = tl.load(norm + channel, mask=norms, other=1.0)
    numbers = tl.where(norms, numbers / scale, numbers) * weights
    if PRUNED:
        numbers = largest_only(numbers, inside, tl.load(channels_kept + row).to(tl.int32))
        bits = tl.load(bit_widths + row, mask=quantising != 0, other=16)
        numbers = quantised(numbers, bits, QUANT_BLOCK)
    numbers = narrowed(numbers, normed.dtype.element_ty)
    tl.store(normed + at, numbers, mask=inside)
    if LISTED:
        used = ((numbers.to(tl.float32) != 0.0) & inside).to(tl.int32)
        tl.store(channels + tl.cumsum(used, 0) - 1, channel, mask=used > 0)
        tl.store(counts, tl.sum(used, 0))
