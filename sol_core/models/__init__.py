"""The decoder: reads Hugging Face weights of the supported families, is handed its cache."""

from sol_core.models.decoder import FrozenLM
from sol_core.models.families.readers import SUPPORTED_FAMILIES, spec_from_config
from sol_core.models.families.refusals import refuse_denied_biases
from sol_core.models.signals import PrefillOutput
from sol_core.models.spec import ModelSpec
from sol_core.models.step.output import StepOutput

__all__ = [
    "SUPPORTED_FAMILIES",
    "FrozenLM",
    "ModelSpec",
    "PrefillOutput",
    "StepOutput",
    "refuse_denied_biases",
    "spec_from_config",
]
