"""Angles of rotary position embeddings (RoFormer, arXiv:2104.09864), see kernels/kv_write."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sol_core.models.spec import RopeSpec


def inverse_frequencies(rope: RopeSpec, head_size: int, device: torch.device) -> Tensor:
    """Return the radians per position of each channel pair: [D / 2] fp32, 0 if not rotated."""
    rotated = 0 if rope.kind == "none" else rope.rotated or head_size
    exponent = torch.arange(0, rotated, 2, dtype=torch.int64, device=device).float() / rotated
    lengths = rope.theta**exponent
    if rope.divisors is not None:
        lengths = torch.tensor(rope.divisors, device=device) * lengths
    frequencies = 1.0 / lengths
    if rope.kind == "linear":
        frequencies = frequencies / rope.factor
    elif rope.kind == "llama3":
        frequencies = _llama3_frequencies(rope, frequencies)
    elif rope.ramp is not None:
        frequencies = _yarn_frequencies(rope.ramp, rope.factor, lengths)
    return torch.nn.functional.pad(frequencies, (0, (head_size - rotated) // 2))


def rotary_angles(
    frequencies: Tensor, positions: Tensor, amplitude: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine for each position: two [..., D] fp32 tensors with equal halves."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    if amplitude is None:
        return angles.cos(), angles.sin()
    factors = torch.where(torch.cat((frequencies, frequencies)) > 0, amplitude, 1.0)
    return angles.cos() * factors, angles.sin() * factors


def _yarn_frequencies(ramp: tuple[float, float], factor: float, lengths: Tensor) -> Tensor:
    """Interpolate by YaRN between ``lengths``, positions per radian [D / 2], and scaled ones."""
    first, last = ramp
    pairs = torch.arange(len(lengths), dtype=torch.float32, device=lengths.device)
    kept = 1 - ((pairs - first) / (last - first)).clamp(0, 1)
    return 1.0 / (factor * lengths) * (1 - kept) + 1.0 / lengths * kept


def _llama3_frequencies(rope: RopeSpec, frequencies: Tensor) -> Tensor:
    wavelength = 2 * math.pi / frequencies
    longest_kept = rope.original_positions / rope.high_frequency
    shortest_scaled = rope.original_positions / rope.low_frequency
    smooth = (rope.original_positions / wavelength - rope.low_frequency) / (
        rope.high_frequency - rope.low_frequency
    )
    blended = (1 - smooth) * frequencies / rope.factor + smooth * frequencies
    scaled = torch.where(wavelength > shortest_scaled, frequencies / rope.factor, frequencies)
    between = (wavelength <= shortest_scaled) & (wavelength >= longest_kept)
    return torch.where(between, blended, scaled)
