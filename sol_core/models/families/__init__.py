"""Families of models: what their Hugging Face configs and checkpoints mean to the one decoder."""

from sol_core.models.families.layer_names import (
    LayerNames,
    head_channels,
    layer_names,
    spread_heads,
)
from sol_core.models.families.readers import SUPPORTED_FAMILIES, spec_from_config
from sol_core.models.families.refusals import complete_config, refuse_denied_biases, refuse_family

__all__ = [
    "SUPPORTED_FAMILIES",
    "LayerNames",
    "complete_config",
    "head_channels",
    "layer_names",
    "refuse_denied_biases",
    "refuse_family",
    "spec_from_config",
    "spread_heads",
]
