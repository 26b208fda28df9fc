"""Default places: the data directory, the default model, its shipped policy, and the program."""

from __future__ import annotations

import os
from pathlib import Path

from sol_core.errors import ConfigError

DATA_DIR_VARIABLE = "SOL_DATA_DIR"
APP_NAME = "sol-explorer"
LAUNCHER = "launch.py"
SCRIPT = "sol-explorer"  # pyproject.toml's console script
DEFAULT_MODEL = "smollm2-135m-instruct"
BLOCKS_NAME = "quantised.safetensors"  # of a model's folder: see ``sol_core/models/quantised.py``
# For the default model; trained by this project's own trainer.
_SHIPPED = Path(__file__).parents[1] / "policy" / "shipped"
SHIPPED_POLICY = _SHIPPED / "smollm2-135m-instruct"
# "default" is one policy for each named grid: the one for the grid in use is taken.
SHIPPED_POLICIES = {"default": SHIPPED_POLICY, "paper": _SHIPPED / "smollm2-135m-instruct-paper"}


def default_data_dir() -> Path:
    """``SOL_DATA_DIR``, else the platform's own place for an application's data.

    Raises: ConfigError for a home directory that does not exist.
    """
    chosen = os.environ.get(DATA_DIR_VARIABLE, "").strip()
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_dir(APP_NAME, appauthor=False)
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # "~nobody/x": no such user
        raise ConfigError(f"cannot use {chosen!r} as data directory: {error}") from error


def program_name() -> str:
    """Return what a user types to start the program, in a checkout or as an installed package."""
    checkout = (Path(__file__).resolve().parents[2] / LAUNCHER).is_file()
    return f"python {LAUNCHER}" if checkout else SCRIPT
