"""Policies: the network, its prices, its scheduler. Names that need torch are imported on first
use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sol_core.policy.info import PolicyConfig, PolicyInfo, read_policy_info

if TYPE_CHECKING:
    from sol_core.policy.files.folder import check_policy
    from sol_core.policy.policy import Policy, load_policy, save_policy
    from sol_core.policy.scheduler import PolicyScheduler

__all__ = [
    "Policy",
    "PolicyConfig",
    "PolicyInfo",
    "PolicyScheduler",
    "check_policy",
    "load_policy",
    "read_policy_info",
    "save_policy",
]


_HOMES = {
    "Policy": "policy",
    "PolicyScheduler": "scheduler",
    "check_policy": "files.folder",
    "load_policy": "policy",
    "save_policy": "policy",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
