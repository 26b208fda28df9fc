"""``--schedule MODULE:NAME``: a schedule of the user's own. Only what was typed is imported."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sol_core.config import POLICY_PREFIX
from sol_core.errors import ConfigError

_OWN = re.compile(r"[A-Za-z_][\w.]+:[A-Za-z_]\w*")  # two letters at least: C: is a drive
Schedule = Any  # a policy's folder, or a function from an observation to an action


def is_own(text: str) -> bool:
    """Return whether an option's text names a schedule in a module."""
    return not text.startswith(POLICY_PREFIX) and bool(_OWN.fullmatch(text))


def with_own(find: Callable[[str], Path]) -> Callable[[str], Schedule]:
    """Find schedules of modules too; ``find`` finds a policy's folder."""
    return lambda name: own_schedule(name) if is_own(name) else find(name)


def own_schedule(name: str) -> Callable[..., Any]:
    """The function of a name, or a class, of which each sequence has an instance."""
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        schedule: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"--schedule {name}: {error}; name a function as MODULE:NAME, from this folder"
        ) from error
    if not callable(schedule):
        raise ConfigError(f"--schedule {name} must be a function, got a {type(schedule).__name__}")
    return schedule
