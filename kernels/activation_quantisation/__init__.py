"""Per-token activation quantisation at any bit width."""

from kernels.activation_quantisation.reference import fake_quantise

__all__ = ["fake_quantise"]
