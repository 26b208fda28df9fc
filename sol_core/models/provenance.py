"""Records the program and machine behind a result."""

from __future__ import annotations

import contextlib
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from kernels import __version__
from kernels.cpu.threads import kernel_threads
from sol_core.models.devices import cpu_kernels, cpu_name
from sol_core.models.loading import LanguageModel

_PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "numba", "triton")


@cache
def package_version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


@cache
def commit() -> str | None:
    """Return the program's git commit, "-dirty" if files differ; None outside a checkout."""
    if not (_PROJECT / ".git").exists():
        return None
    asked = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        described = subprocess.check_output(
            asked, cwd=_PROJECT, stderr=subprocess.DEVNULL, text=True, timeout=10
        )
        return described.strip() or None
    return None


def provenance(model: LanguageModel) -> dict[str, Any]:
    """Return ``made_on`` and the command, as JSON."""
    return made_on(model) | {"command": shlex.join(sys.argv)}


def made_on(model: LanguageModel) -> dict[str, Any]:
    """Return versions, commit, dtype, device, processor, threads and kernels, as JSON."""
    versions = {"sol-explorer": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := package_version(name))}
    device = model.lm.device
    on_card = device.type == "cuda"
    replaced = f"; {'; '.join(model.notes)}" if model.notes else ""
    return {
        "versions": versions,
        **({"commit": made_of} if (made_of := commit()) else {}),
        "dtype": model.dtype_name,
        "device": model.device_name,
        "processor": torch.cuda.get_device_name(device) if on_card else cpu_name(),
        "threads": torch.get_num_threads() if on_card else kernel_threads(),
        "kernels": "triton" + replaced if on_card else cpu_kernels(),
    }
