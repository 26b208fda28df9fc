"""The gated MLP of a compressed decode step, in plain PyTorch: the definition.

``down(act(gate(x)) · up(x))`` over an input whose channels are pruned by magnitude, with
fake quantisation at the output or at both inputs, as in SOL (arXiv:2605.10875). The channels
between the projections may be pruned, too, by what each would add to the output. This file
multiplies with zeros and saves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from kernels.activation_quantisation.reference import fake_quantise
from kernels.channel_pruning.reference import keep_heaviest_channels, keep_largest_channels


@dataclass(frozen=True, slots=True)
class MlpWeights:
    """One layer's MLP."""

    gate_up: Tensor  # [C, 2·I], gate first
    down: Tensor  # [I, C], of the same dtype
    gate_up_bias: Tensor | None = None  # [2·I]
    down_bias: Tensor | None = None  # [C]
    activation: Literal["silu", "gelu_tanh"] = "silu"  # of the gate
    down_norms: Tensor | None = None  # [I] fp32, Euclidean norms of down's rows


@dataclass(frozen=True, slots=True)
class MlpPlan:
    """Channels and bits that each row may compute with."""

    channels_kept: Tensor | None = None  # [R] int64 in [1, C]; None keeps all
    bit_widths: Tensor | None = None  # [R] int64 in [2, 16]; None quantises nothing
    quantise_inputs: bool = False  # at the pruned input and down's input, not at the output
    inner_kept: Tensor | None = None  # [R] int64 in [1, I], of what is between; None keeps all
    quant_block: int = 0  # channels that share a scale of the quantisation; 0: all


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """Activation(gate) · up: [..., 2·I], gate first → [..., I]."""
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh") * up


def gated_mlp(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> Tensor:
    """The MLP of normalised hidden states, pruned and quantised per row.

    Args:
        hidden: [R, C] fp32.
    Returns: [R, C] in the weights' dtype.
    """
    dtype = weights.gate_up.dtype
    if plan.channels_kept is not None:
        hidden = keep_largest_channels(hidden, plan.channels_kept)
    if plan.bit_widths is not None and plan.quantise_inputs:
        hidden = fake_quantise(hidden, plan.bit_widths, plan.quant_block)
    inner = hidden.to(dtype) @ weights.gate_up
    if weights.gate_up_bias is not None:
        inner = inner + weights.gate_up_bias
    inner = activated(inner, weights.activation)
    if plan.inner_kept is not None:
        if weights.down_norms is None:
            raise ValueError("inner_kept needs weights with down_norms")
        inner = keep_heaviest_channels(inner, weights.down_norms, plan.inner_kept)
    if plan.bit_widths is not None and plan.quantise_inputs:
        inner = fake_quantise(inner, plan.bit_widths, plan.quant_block)
    output = inner @ weights.down
    if weights.down_bias is not None:
        output = output + weights.down_bias
    if plan.bit_widths is not None and not plan.quantise_inputs:
        output = fake_quantise(output, plan.bit_widths, plan.quant_block)
    return output
