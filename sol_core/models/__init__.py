"""The decoder: reads Hugging Face weights of the supported families, owns no cache."""

from sol_core.models.decoder import FrozenLM, StepOutput
from sol_core.models.signals import PrefillOutput
from sol_core.models.spec import SUPPORTED_FAMILIES, ModelSpec, spec_from_config

__all__ = [
    "SUPPORTED_FAMILIES",
    "FrozenLM",
    "ModelSpec",
    "PrefillOutput",
    "StepOutput",
    "spec_from_config",
]
