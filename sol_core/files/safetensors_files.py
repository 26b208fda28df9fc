"""Reads and writes a safetensors file whole, with errors that Python knows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_OS_ERROR = re.compile(r"os error (\d+)")  # as Rust's standard library writes it


def read_safetensors(path: Path, framework: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Header and tensors.

    Args:
        framework: "pt" for torch's tensors, "numpy" for arrays.
    Raises: OSError; ValueError for a file that is cut or is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            return dict(file.metadata() or {}), tensors
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def write_safetensors(
    tensors: dict[str, Any], path: Path, header: dict[str, str] | None = None
) -> None:
    """Write torch's tensors, which share no memory and are contiguous.

    Raises: OSError, which the library hides in an error of its own: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, header)
    except SafetensorError as error:
        match = _OS_ERROR.search(str(error))
        if match is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from error
