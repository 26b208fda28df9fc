"""The decoder: reads Hugging Face weights of the supported families; takes an explicit cache."""

from sol_core.models.decoder import FrozenLM
from sol_core.models.families.readers import spec_from_config
from sol_core.models.signals import PrefillOutput
from sol_core.models.step.output import StepOutput

__all__ = ["FrozenLM", "PrefillOutput", "StepOutput", "spec_from_config"]
