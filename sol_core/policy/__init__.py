"""Policies: the network, its prices, its scheduler. Names that need torch are imported on first
use."""

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


def __getattr__(name: str) -> Any:
    if name == "check_policy":
        from sol_core.policy.files.folder import check_policy

        return check_policy
    if name in ("Policy", "load_policy", "save_policy"):
        from sol_core.policy import policy

        return getattr(policy, name)
    if name == "PolicyScheduler":
        from sol_core.policy.scheduler import PolicyScheduler

        return PolicyScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
