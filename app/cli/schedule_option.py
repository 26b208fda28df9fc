"""The option ``--schedule``: a kind of schedule, or ``policy:NAME_OR_FOLDER``."""

from __future__ import annotations

from typing import get_args

from sol_core.actions import Budget
from sol_core.config import POLICY_PREFIX, ScheduleConfig, ScheduleKind
from sol_core.errors import ConfigError

_KINDS = tuple(kind for kind in get_args(ScheduleKind) if kind != "policy")
SCHEDULE_HELP = (
    f"who picks each step's compute: {', '.join(_KINDS)}, or policy:NAME with the name of a "
    "stored policy, policy:default, or policy:FOLDER"
)


def schedule_from_option(text: str, budget: Budget, seed: int = 0) -> ScheduleConfig:
    """The schedule that the option's text asks for.

    Raises: ConfigError naming the text and what is allowed.
    """
    if text.startswith(POLICY_PREFIX):
        name = text.removeprefix(POLICY_PREFIX).strip()
        if not name:
            raise ConfigError("--schedule policy: needs a name or a folder after the colon")
        return ScheduleConfig("policy", budget, seed, name)
    if text not in _KINDS:
        raise ConfigError(
            f"--schedule must be one of {', '.join(_KINDS)} or policy:NAME_OR_FOLDER, got {text!r}"
        )
    return ScheduleConfig(text, budget, seed)  # type: ignore[arg-type]  # checked above
