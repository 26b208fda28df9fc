"""Modules of the user's own, from the current folder: only what was typed is imported."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from types import ModuleType

from sol_core.errors import ConfigError

# A worker that the page starts imports what the page was told to.
PLUGINS_VARIABLE = "SOL_PLUGINS"


def own_module(name: str, option: str) -> ModuleType:
    """Import a module from this folder or the installed ones.

    Args:
        option: that named it, in messages.
    Raises: ConfigError when it cannot be imported.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{option}: {error}; name a module of this folder") from error


def load_plugins(names: Iterable[str]) -> None:
    """Import what ``--plugin`` and ``SOL_PLUGINS`` name, for this process and those it starts.

    Raises: ConfigError when one cannot be imported, or registers a name that is taken.
    """
    known = os.environ.get(PLUGINS_VARIABLE, "").split(",")
    wanted = list(dict.fromkeys(name.strip() for name in [*known, *names] if name.strip()))
    for name in wanted:
        own_module(name, f"--plugin {name}")
    if wanted:
        os.environ[PLUGINS_VARIABLE] = ",".join(wanted)
