"""Magnitude pruning of MLP input channels (METHOD: keep the k largest |h|)."""

from kernels.channel_pruning.reference import keep_largest_channels

__all__ = ["keep_largest_channels"]
