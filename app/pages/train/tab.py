"""Lays out the Train tab: one component with the form, the job on show and the list of jobs."""

from __future__ import annotations

from typing import Any

from app.pages.train.form import form_from_config, form_groups
from app.pages.train.handlers import HANDLERS, MAX_NAME_LENGTH
from app.web.component import Page
from app.web.services import Services
from sol_core.training.config import PRESETS

_PRESET_WORDS = {
    "quick": ("Quick", "A first look: a small policy that already saves, in a few minutes."),
    "standard": ("Standard", "The default: warm start on many texts, then GRPO on rollouts."),
    "paper": ("Paper", "The authors' own recipe, for comparison: joint network, GRPO alone."),
}


def _constants(services: Services) -> dict[str, Any]:
    presets = [
        {
            "key": key,
            "label": _PRESET_WORDS.get(key, (key.capitalize(), ""))[0],
            "meaning": _PRESET_WORDS.get(key, ("", ""))[1],
            "values": form_from_config(config),
        }
        for key, config in PRESETS.items()
    ]
    return {
        "presets": presets,
        "defaultPreset": "standard",
        "groups": form_groups(),
        "maxNameLength": MAX_NAME_LENGTH,
    }


PAGE = Page("train", "Train", HANDLERS, _constants)
