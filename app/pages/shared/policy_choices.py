"""The stored policies as the pages offer them."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import finite
from app.web.services import Services
from sol_core.policy.files.locate import DEFAULT_POLICY


def policy_choices(services: Services) -> list[dict[str, Any]]:
    """Every policy that can be used, the shipped one first: name, model, size, date."""
    return [
        {
            "name": policy.name,
            "model": policy.info.model,
            "created": str(policy.info.created),
            "parameters": finite(policy.info.num_parameters),
            "shipped": policy.name == DEFAULT_POLICY,
        }
        for policy in services.policies.list()
    ]
