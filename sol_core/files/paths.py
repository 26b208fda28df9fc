"""Default paths, and safe reading of files and texts from users. Imports no package."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from sol_core.errors import ConfigError

DATA_DIR_VARIABLE = "SOL_DATA_DIR"
DEVICE_VARIABLE = "SOL_DEVICE"  # default device of the page and its worker
APP_NAME = "sol-explorer"
LAUNCHER = "launch.py"
SCRIPT = "sol-explorer"  # pyproject.toml's console script
DEFAULT_MODEL = "smollm2-135m-instruct"
BLOCKS_NAME = "quantised.safetensors"  # of a model's folder: see ``sol_core/models/weights.py``
# For the default model; trained by this project's own trainer.
_SHIPPED = Path(__file__).parents[1] / "policy" / "shipped"
SHIPPED_POLICY = _SHIPPED / "smollm2-135m-instruct"
# "default" names one policy for each named grid; the grid in use selects it.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe would block
SHIPPED_POLICIES = {"default": SHIPPED_POLICY, "paper": _SHIPPED / "smollm2-135m-instruct-paper"}


def default_data_dir() -> Path:
    """Return ``SOL_DATA_DIR``, else the platform's folder for application data."""
    chosen = os.environ.get(DATA_DIR_VARIABLE, "").strip()
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_dir(APP_NAME, appauthor=False)
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # "~nobody/x": no such user
        raise ConfigError(f"cannot use {chosen!r} as data directory: {error}") from error


def program_name() -> str:
    """Return the command that starts the program, in a checkout or installed."""
    checkout = (Path(__file__).resolve().parents[2] / LAUNCHER).is_file()
    return f"python {LAUNCHER}" if checkout else SCRIPT


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most ``max_bytes``."""
    try:
        with open(os.open(path, os.O_RDONLY | _NO_WAIT), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file, but a pipe or a device")
            content = file.read(max_bytes + 1)
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error)) from error
    if len(content) > max_bytes:
        raise OSError(
            errno.EFBIG, f"it has more than {max_bytes / 1e6:g} MB, the most that is read"
        )
    return content


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file's JSON object; return {} if it is missing, damaged or no object."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def whole_characters(text: str) -> str:
    """Replace lone surrogates in a text by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def first_line(error: BaseException) -> str:
    """Return at most 200 characters of a library's error, or its class if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def why_not_parsed(error: Exception) -> str:
    """Return the reason why JSON or TOML cannot be parsed, for users."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "integer string conversion" in str(error):
        return "it holds a whole number of more than 4,300 digits"
    return str(error)[:200]
