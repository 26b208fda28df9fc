"""One shape for evaluations of all releases: methods by their roles, gains by their losses.

The method whose spend all others get is "policy", others of its kind are "policy:NAME".
"""

from __future__ import annotations

from typing import Any

from sol_core.config import POLICY_PREFIX

ROLE = "policy"
_FORMER = {"gain": "nll_gain", "low": "nll_low", "high": "nll_high"}


def in_roles(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The budgets of a result, of those that have methods, in that shape."""
    budgets = [
        budget
        for budget in result.get("budgets") or []
        if "requested" in budget and "methods" in budget
    ]
    roles = {}
    if (result.get("schema") or 1) > 1:
        first, *others = result.get("policies") or [ROLE]
        roles = {first: ROLE} | {name: f"{POLICY_PREFIX}{name}" for name in others}
    return [_in_roles(budget, roles) for budget in budgets]


def _in_roles(budget: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    # One with a baseline's name is there by its role.
    known = {name: role for name, role in roles.items() if role not in budget["methods"]}
    methods = {known.get(name, name): method for name, method in budget["methods"].items()}
    paired = {
        known.get(name, name): {_FORMER.get(key, key): value for key, value in pair.items()}
        for name, pair in budget.get("paired", {}).items()
    }
    return budget | {"methods": methods} | ({"paired": paired} if paired else {})
