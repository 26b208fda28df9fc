"""The small operations of one row, as Numba functions that several CPU kernels are built from.

Importing this compiles nothing: they are compiled into the kernels that call them.
"""

import numpy as np

from kernels.cpu.compiling import fast_helper, helper
from kernels.cpu.numba_helpers import (
    TO_EVEN,
    copy_row,
    count_reaching,
    exp_nonpositive,
    kth_largest,
    narrow,
    widen,
)
from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS

_FLOOR = np.float32(SCALE_FLOOR)


@helper
def keep_largest_row(hidden, count, kept):
    """``keep_largest_channels`` of one row [C] into ``kept``; NaN counts as largest."""
    num_channels = hidden.shape[0]
    if count >= num_channels:
        copy_row(hidden, kept)
        return
    magnitudes = np.empty(num_channels, np.uint32)
    bits = hidden.view(np.uint32)
    for channel in range(num_channels):
        # Without the sign bit, the patterns are in the order of the magnitudes.
        magnitudes[channel] = bits[channel] & np.uint32(0x7FFFFFFF)
    threshold, above = kth_largest(magnitudes, count)
    for channel in range(num_channels):
        kept[channel] = hidden[channel] if magnitudes[channel] >= threshold else np.float32(0.0)
    if count_reaching(magnitudes, threshold) == count:  # none ties for the last rank
        return
    room = count - above
    for channel in range(num_channels):
        if magnitudes[channel] == threshold:
            kept[channel] = hidden[channel] if room > 0 else np.float32(0.0)
            room -= 1


@helper
def keep_heaviest_row(inner, norms, count, kept):
    """``keep_heaviest_channels`` of one row [I] into ``kept``, which may be the same array; numbers
    are of a type that ``widen`` takes."""
    width = inner.shape[0]
    weights, heaviest = np.empty(width, np.float32), np.empty(width, np.float32)
    for channel in range(width):
        weights[channel] = widen(inner[channel]) * norms[channel]
    keep_largest_row(weights, count, heaviest)
    for channel in range(width):
        some = heaviest[channel] != np.float32(0.0)
        kept[channel] = inner[channel] if some else kept.dtype.type(0)


@helper
def rotate_row(head, cosine, sine, scale, rotated):
    """``rotate`` of one head [D], of a type that ``widen`` takes, and scaled, into ``rotated``,
    which may be the same array."""
    half = head.shape[0] // 2
    for d in range(half):
        first, second = widen(head[d]), widen(head[half + d])
        rotated[d] = (first * cosine[d] - second * sine[d]) * scale
        rotated[half + d] = (second * cosine[half + d] + first * sine[half + d]) * scale


@helper
def count_scales(width, block):
    """Scales of a row of so many channels, of which ``block`` share one; 0: all."""
    return (width + block - 1) // block if block > 0 else 1


@helper
def quantise_blocks(activations, bit_width, block, rounded, steps):
    """``fake_quantise`` of one row [C] into ``rounded``, which may be the same array.

    Args:
        steps: [B] float32, overwritten: between the levels of each block; 0 if none is rounded.
    """
    if bit_width >= UNTOUCHED_BITS:
        copy_row(activations, rounded)
        steps[:] = np.float32(0.0)
        return
    width = activations.shape[0]
    span = block if block > 0 else width
    for number in range(steps.shape[0]):
        begin, end = number * span, min((number + 1) * span, width)
        steps[number] = _quantise(activations[begin:end], bit_width, rounded[begin:end])


@helper
def _quantise(activations, bit_width, rounded):
    """Round [n] numbers by one scale; returns the step between levels, float32."""
    bits = activations.view(np.uint32)
    largest = np.uint32(0)
    for channel in range(activations.shape[0]):
        largest = max(largest, bits[channel] & np.uint32(0x7FFFFFFF))
    peak = np.uint32(largest).view(np.float32)
    scale = peak / np.float32((1 << (bit_width - 1)) - 1)
    if scale < _FLOOR:
        scale = _FLOOR
    for channel in range(activations.shape[0]):
        level = (activations[channel] / scale + TO_EVEN) - TO_EVEN
        rounded[channel] = level * scale
    return scale


@helper
def add_update(hidden, update, norm, epsilon):
    """hidden [C] += update [C], which is normed first if ``norm`` is not empty."""
    if norm.shape[0] > 0:
        norm_row(update, norm, epsilon, update)
    for channel in range(hidden.shape[0]):
        hidden[channel] += update[channel]


@fast_helper
def norm_row(hidden, weight, epsilon, normed):
    """``rms_norm`` of one row [C] into ``normed``, which may be the same array; of a type that
    ``narrow`` takes."""
    num_channels = hidden.shape[0]
    total = np.float32(0.0)
    for channel in range(num_channels):
        total += hidden[channel] * hidden[channel]
    scale = np.float32(1.0) / np.sqrt(total / np.float32(num_channels) + epsilon)
    for channel in range(num_channels):
        normed[channel] = narrow(hidden[channel] * scale * weight[channel], normed)


@fast_helper
def activate_row(gate, up, gelu, inner):
    """inner = activation(gate) · up, elementwise; e^−|x| serves both activations. Numbers are of
    types that ``widen`` and ``narrow`` take."""
    for j in range(gate.shape[0]):
        x = widen(gate[j])
        y = x
        if gelu:
            y = np.float32(1.5957691216057308) * (x + np.float32(0.044715) * x * x * x)
        # x · sigmoid(y); 0.5 · (1 + tanh(u)) is sigmoid(2 u).
        small = exp_nonpositive(-abs(y))
        sigmoid = (np.float32(1.0) if y >= np.float32(0.0) else small) / (np.float32(1.0) + small)
        inner[j] = narrow(x * sigmoid * widen(up[j]), inner)
