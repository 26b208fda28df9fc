"""The MLP half of a layer for a few rows: norm, pruning, gate and up, down, residual; in Numba.

A pruned channel's weights are not read. Two parallel regions: gate and up with their
activation, then down; what lies between takes a few microseconds and runs on one thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from kernels.activation_quantisation.reference import UNTOUCHED_BITS
from kernels.decode_layer.products import add_columns, list_channels, product, share_of
from kernels.numba_helpers import FAST_SUMS, exp_nonpositive
from kernels.numba_rows import keep_largest_row, norm_row, quantise_row

__all__ = ["MlpWeights", "mlp_rows"]


class MlpWeights(NamedTuple):
    """One layer's; matrices are float32, or bfloat16 as uint16 bit patterns.

    Attributes:
        norm: [C] float32.
        gate_up: [C, 2·I], gate first.
        down: [C, I] if ``down_out_major``, else [I, C].
        output_norm: [C] float32, of the MLP's output; empty for none.
        gelu: tanh-approximated GELU instead of SiLU.
    """

    norm: Any
    gate_up: Any
    down: Any
    down_out_major: bool
    output_norm: Any
    gelu: bool
    epsilon: Any


@numba.njit(nogil=True, error_model="numpy", fastmath=FAST_SUMS)
def _gate(gate, up, gelu, inner):
    """inner = activation(gate) · up, elementwise; e^−|x| serves both activations."""
    for j in range(gate.shape[0]):
        x = gate[j]
        y = x
        if gelu:
            y = np.float32(1.5957691216057308) * (x + np.float32(0.044715) * x * x * x)
        # x · sigmoid(y); 0.5 · (1 + tanh(u)) is sigmoid(2 u).
        small = exp_nonpositive(-abs(y))
        share = (np.float32(1.0) if y >= np.float32(0.0) else small) / (np.float32(1.0) + small)
        inner[j] = x * share * up[j]


@numba.njit(nogil=True, error_model="numpy")
def _add_output(hidden, output, bit_width, weights):
    """hidden [C] += the MLP's output [C], after its quantisation and norm."""
    quantise_row(output, bit_width, output)
    if weights.output_norm.shape[0] > 0:
        norm_row(output, weights.output_norm, weights.epsilon, output)
    for channel in range(hidden.shape[0]):
        hidden[channel] += output[channel]


@numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def mlp_rows(hidden, weights, channels_kept, bit_widths, at_input, tasks):
    """Add the MLP of one decode step to the residual stream.

    Args:
        hidden: [R, C] float32, contiguous, changed.
        weights: MlpWeights.
        channels_kept: [R] int64, C for all.
        bit_widths: [R] int64, 16 for untouched.
        at_input: quantise the pruned input and down's input, not the output.
        tasks: parts that each product is cut into; the result does not depend on it.
    """
    gate_up, gelu, width = weights.gate_up, weights.gelu, weights.gate_up.shape[1] // 2
    num_rows = hidden.shape[0]
    normed, kept = np.empty_like(hidden), np.empty_like(hidden)
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, normed[row])
        keep_largest_row(normed[row], channels_kept[row], kept[row])
        if at_input:
            quantise_row(kept[row], bit_widths[row], kept[row])
    channels, scales = list_channels(kept)
    gate, up = np.empty((num_rows, width), np.float32), np.empty((num_rows, width), np.float32)
    for task in numba.prange(tasks):
        begin, end = share_of(task, tasks, width)
        add_columns(channels, scales, gate_up, begin, gate[:, begin:end])
        add_columns(channels, scales, gate_up, width + begin, up[:, begin:end])
        for row in range(num_rows):
            _gate(gate[row, begin:end], up[row, begin:end], gelu, gate[row, begin:end])
    if at_input:
        for row in range(num_rows):
            quantise_row(gate[row], bit_widths[row], gate[row])
    product(gate, weights.down, weights.down_out_major, kept, tasks)
    for row in range(num_rows):
        bits = np.int64(UNTOUCHED_BITS) if at_input else bit_widths[row]
        _add_output(hidden[row], kept[row], bits, weights)
