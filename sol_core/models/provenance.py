"""Record of the program and machine that made some numbers."""

from __future__ import annotations

import contextlib
import functools
import platform
import shlex
import sys
from importlib import metadata
from typing import Any

import torch

from kernels import __version__
from kernels.cpu.threads import kernel_threads
from sol_core.models.devices import cpu_kernels
from sol_core.models.loading import LanguageModel
from sol_core.models.processor import cpu_name

PACKAGES = ("torch", "transformers", "numba", "triton")


@functools.cache
def package_version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def provenance(model: LanguageModel) -> dict[str, Any]:
    """``made_on`` and the command; JSON-ready."""
    return made_on(model) | {"command": shlex.join(sys.argv)}


def made_on(model: LanguageModel) -> dict[str, Any]:
    """Versions, format, device, processor, threads and kernels in use; JSON-ready."""
    versions = {"sol-explorer": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := package_version(name))}
    device = model.lm.device
    on_card = device.type == "cuda"
    replaced = f"; {'; '.join(model.notes)}" if model.notes else ""
    return {
        "versions": versions,
        "dtype": model.dtype_name,
        "device": model.device_name,
        "processor": torch.cuda.get_device_name(device) if on_card else cpu_name(),
        "threads": torch.get_num_threads() if on_card else kernel_threads(),
        "kernels": "triton" + replaced if on_card else cpu_kernels(),
    }
