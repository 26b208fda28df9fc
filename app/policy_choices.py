"""The stored policies as the pages offer them."""

from __future__ import annotations

from typing import Any

from app.policy_library import DEFAULT_POLICY
from app.services import Services
from app.views import finite

__all__ = ["policy_choices"]


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
