"""Where things are: data when nobody says otherwise, the default model, and its shipped policy."""

from __future__ import annotations

import os
from pathlib import Path

from sol_core.errors import ConfigError

__all__ = ["DATA_DIR_VARIABLE", "DEFAULT_MODEL", "SHIPPED_POLICY", "default_data_dir"]

DATA_DIR_VARIABLE = "SOL_DATA_DIR"
APP_NAME = "sol-explorer"
DEFAULT_MODEL = "smollm2-135m-instruct"
# For the default model; trained by this project's own trainer.
SHIPPED_POLICY = Path(__file__).parent / "policy" / "shipped" / "smollm2-135m-instruct"


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
