"""The MLP's input loses its smallest channels, as in the paper (arXiv:2605.10875)."""

from __future__ import annotations

from kernels.mlp_pruners.pruner import MlpPruner

INPUT = MlpPruner(
    name="input",
    label="Input channels",
    meaning="input ones",
    unit="MLP inputs",
    shares=lambda ratio, split: (ratio, 1.0),
    # The third matrix is read whole.
    ratio=lambda of_bytes: (3 * of_bytes - 1) / 2,
    fused=True,
)
