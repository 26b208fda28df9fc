"""Reads a safetensors file whole: its header and its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["read_safetensors"]


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
