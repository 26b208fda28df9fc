"""The build of torch that the set-up asks for: the CUDA that the NVIDIA driver allows, if any.

PyPI's torch for Linux brings the newest CUDA along, three gigabytes to fetch. PyTorch's own index
has one without, and one with CUDA 12.6.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_12_INDEX = "https://download.pytorch.org/whl/cu126"
OLDEST_CUDA = (12, 0)  # of the releases of torch that we take
_INDEX_SETTING = re.compile(r"\.(?:index-url|extra-index-url|no-index)=", re.MULTILINE)


def torch_index(python: Path) -> str | None:
    """The index for torch, None for pip's own; one that the user has set is torch's as well."""
    if sys.platform != "linux" or _has_index_of_its_own(python):
        return None
    if not _wants_cuda():
        return CPU_INDEX
    return CUDA_12_INDEX if driver_cuda() < (13, 0) else None


def driver_cuda() -> tuple[int, int]:
    """The newest CUDA that NVIDIA's driver for Linux runs; (0, 0) without a driver."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return (0, 0)
    return version.value // 1000, version.value % 1000 // 10


def why_gpu_is_unused() -> str | None:
    """Reason that a torch without CUDA leaves this machine's GPU unused; None without a driver."""
    known = driver_cuda()
    if known == (0, 0):
        return None
    if known < OLDEST_CUDA:
        return (
            f"the NVIDIA driver runs CUDA {known[0]}.{known[1]} at most, torch needs "
            f"{OLDEST_CUDA[0]}.{OLDEST_CUDA[1]}: install a newer driver"
        )
    return "an NVIDIA driver is here, but torch has no CUDA"


def needed_bytes() -> int:
    """Disk that all packages need: 6.1 GB unpacked with CUDA, 2.8 without, and pip's own files."""
    if sys.platform != "linux":
        return 3 * 1000**3
    return (7 if _wants_cuda() else 4) * 1000**3


def _wants_cuda() -> bool:
    return driver_cuda() >= OLDEST_CUDA


def _has_index_of_its_own(python: Path) -> bool:
    command = [str(python), "-I", "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=False)
    return _INDEX_SETTING.search(settings.stdout) is not None
