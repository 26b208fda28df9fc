"""The build of torch that the set-up asks for: one without CUDA where no NVIDIA driver is.

PyPI's torch for Linux brings CUDA along, three gigabytes to fetch. PyTorch's own index has one
without, so for that package it is asked first; where it gives none, PyPI does.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_INDEX_SETTING = re.compile(r"\.(?:index-url|extra-index-url|no-index)=", re.MULTILINE)


def torch_index(python: Path) -> str | None:
    """Address of the index to ask for torch; None where all packages come from pip's own.

    An index that the user has set for pip, as in ``PIP_EXTRA_INDEX_URL``, holds for torch as well.

    Args:
        python: of the environment, whose pip is asked for its settings.
    """
    if sys.platform != "linux" or has_nvidia_driver() or _has_index_of_its_own(python):
        return None
    return CPU_INDEX


def needed_bytes() -> int:
    """Disk that all packages need: 6.1 GB unpacked with CUDA, 2.8 without, and pip's own files."""
    if sys.platform != "linux":
        return 3 * 1000**3
    return (7 if has_nvidia_driver() else 4) * 1000**3


def has_nvidia_driver() -> bool:
    """Return whether the library of NVIDIA's driver for Linux can be loaded."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _has_index_of_its_own(python: Path) -> bool:
    command = [str(python), "-I", "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=False)
    return _INDEX_SETTING.search(settings.stdout) is not None
