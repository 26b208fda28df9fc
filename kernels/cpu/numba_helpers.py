"""Small Numba functions that several CPU kernels are built from, of numbers and of a row.

Importing this compiles nothing: they are compiled into the kernels that call them.
``threads.cpu_kernel`` says whether Numba can be used at all: import what imports it there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target

from kernels.cpu.compiling import by_types, emitted, fast_helper, helper
from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS

_FLOOR = np.float32(SCALE_FLOOR)
# Added and taken away, it rounds |x| < 2^22 half to even, in vectors.
TO_EVEN = np.float32(1.5 * 2**23)

# e^x by Cephes: below the least it is 0; ln 2 is the first part less the second, which is exact in
# more digits; the polynomial's terms from the highest power down to the square.
EXP_LEAST, LOG2_E = np.float32(-87.0), np.float32(1.4426950408889634)
LN_2 = np.float32(0.693359375), np.float32(2.12194440e-4)
EXP_TERMS = tuple(
    np.float32(term)
    for term in (
        *(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3),
        *(4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    )
)


@by_types
def widen(value):
    """A float32, or the bit pattern of a bfloat16 (as uint16) or of a finite float16 (as int16),
    as float32."""
    if not isinstance(value, types.Integer):
        return lambda value: value
    if value != types.int16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    if cpu_has("f16c"):  # a policy's step took 0.6 of the time with it
        return lambda value: _from_float16(value)

    def widened(value):
        # Exponent and fraction where a float32 has them, whose exponent counts from 112 lower.
        pattern = np.uint32(np.uint32(np.uint16(value) & np.uint16(0x7FFF)) << np.uint32(13))
        size = pattern.view(np.float32) * np.float32(2.0**112)
        return -size if value < 0 else size

    return widened


@cache
def cpu_has(feature: str) -> bool:
    """Return whether the CPU that Numba compiles for has a feature, by LLVM's name ("avx512f")."""
    return feature in target_features(compile_target()[1])


def compile_target() -> tuple[str, str]:
    """LLVM's name and features of the CPU that Numba compiles for: the host's, unless the variables
    ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` name another, or ``NUMBA_ENABLE_AVX`` is 0."""
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    return name, features


def target_features(listed: str) -> frozenset[str]:
    """Features that a list such as "+avx2,-avx512f" turns on, where the last word counts. Those
    that LLVM adds (fma for avx512f) are not in it: code without them is right, at most slower."""
    switches = {item.strip()[1:]: item.strip()[:1] == "+" for item in listed.split(",")}
    return frozenset(name for name, is_on in switches.items() if is_on)


def llvm_call(builder: Any, name: str, result: Any, arguments: Any, flags: Any = ()) -> Any:
    """Call, in generated code, a function that LLVM or the system knows by name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, fastmath=flags)


@emitted(types.float32, pattern=types.int16)
def _from_float16(builder, pattern):
    """The float32 of a float16's bit pattern."""
    return builder.fpext(builder.bitcast(pattern.value, ir.HalfType()), ir.FloatType())


@emitted(types.int64)
def ticks_now(builder):
    """The CPU's time stamp, int64: counts on at an even pace on an x86 of the last fifteen years.
    Not to be asked elsewhere: some ARM systems forbid it to programs."""
    return llvm_call(builder, "llvm.readcyclecounter", ir.IntType(64), [])


@by_types
def narrow(value, array):
    """A float32 as a number of ``array``: itself, or a bfloat16 bit pattern (half to even)."""
    if isinstance(array.dtype, types.Integer):

        def rounded(value, array):
            bits = np.float32(value).view(np.uint32)
            if value != value:
                return np.uint16(0x7FC0)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

        return rounded
    return lambda value, array: value


@helper
def copy_row(row, out):
    """Copy [n] into ``out``. Assigning to a slice also compiles what says that shapes differ:
    seconds for each kind of array."""
    for i in range(out.shape[0]):
        out[i] = row[i]


@helper
def copy_rows(rows, out):
    """Copy [R, n] into ``out``."""
    for row in range(out.shape[0]):
        copy_row(rows[row], out[row])


@fast_helper
def exp_nonpositive(x):
    """e^x in fp32 for x ≤ 0, 2 ulp (Cephes' polynomial, which vectorises); 0 below −87."""
    scaled = max(x, EXP_LEAST) * LOG2_E
    power = np.int32(scaled - np.float32(0.5))
    rounded = np.float32(power)
    rest = x - rounded * LN_2[0] + rounded * LN_2[1]
    value = EXP_TERMS[0]
    value = value * rest + EXP_TERMS[1]
    value = value * rest + EXP_TERMS[2]
    value = value * rest + EXP_TERMS[3]
    value = value * rest + EXP_TERMS[4]
    value = value * rest + EXP_TERMS[5]
    value = value * rest * rest + rest + np.float32(1.0)
    value *= np.int32((power + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(0.0) if x < EXP_LEAST else value


@helper
def in_order(bits):
    """A float32's bits, int32, as an int32 that compares as it does; and back again."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@helper
def kth_largest(keys, rank):
    """The largest threshold that at least ``rank`` keys reach, bit by bit from the top.

    Args:
        keys: [n] uint32.
        rank: in [1, n].
    Returns: (threshold, how many keys above it). Where exactly ``rank`` keys reach the
        threshold the search stops early: the threshold need not be a key then.
    """
    # Everything is cast back to 32 bits: Numba computes in 64, half as many at once.
    low, high = keys[0], keys[0]
    for i in range(keys.shape[0]):
        low, high = min(low, keys[i]), max(high, keys[i])
    threshold = np.uint32(0)
    bit = np.uint32(0x80000000)
    differing = np.uint32(low ^ high)
    while bit > differing:  # bits that all keys have in common
        threshold = np.uint32(threshold | (bit & low))
        bit = np.uint32(bit >> np.uint32(1))
    while bit > np.uint32(0):
        trial = np.uint32(threshold | bit)
        reached = count_reaching(keys, trial)
        if reached >= rank:
            threshold = trial
            if reached == rank:
                break
        bit = np.uint32(bit >> np.uint32(1))
    if threshold == np.uint32(0xFFFFFFFF):
        return threshold, np.int32(0)
    return threshold, count_reaching(keys, np.uint32(threshold + np.uint32(1)))


@helper
def count_reaching(keys, threshold):
    """Count the keys [n] uint32 that are not below the threshold, uint32."""
    reached = np.int32(0)
    for i in range(keys.shape[0]):
        reached = np.int32(reached + np.int32(keys[i] >= threshold))
    return reached


@fast_helper
def outside_best(weights, count, fraction):
    """Sum of the weights outside the best ``fraction`` (at least one) of ``count``.

    Args:
        weights: [n] float32, none below 0; those beyond the count are 0.
    """
    best = max(1, int(np.ceil(fraction * count - 1e-9)))
    bits = weights.view(np.uint32)  # weights are ≥ 0: in the order of their bits
    threshold, _ = kth_largest(bits, best)
    outside, least = np.float32(0.0), np.uint32(threshold).view(np.float32)
    for i in range(weights.shape[0]):
        outside += weights[i] if weights[i] < least else np.float32(0.0)
    # Of those that tie for the last rank, all weigh the same.
    tied = np.int32(count_reaching(bits, threshold)) - np.int32(best)
    return outside + np.float32(tied) * least


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
