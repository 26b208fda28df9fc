"""Parts of the system that Triton needs to start a kernel: a C compiler, ``Python.h``, libcuda."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import torch


def missing_for_triton() -> str | None:
    """The first part that is missing, in a sentence with the package to install."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    compiler = os.environ.get("CC", "").strip()
    if compiler and shutil.which(compiler.split()[0]) is None:
        return f"Triton needs a C compiler, and CC names {compiler!r}, which is not here: unset CC"
    if not compiler and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler: sudo apt install gcc (Fedora: sudo dnf install gcc)"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not headers.is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Triton needs {headers}: sudo apt install python{version}-dev "
            "(Fedora: sudo dnf install python3-devel)"
        )
    try:
        if torch.version.hip is None:
            ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (
            "Triton needs libcuda.so.1, a part of NVIDIA's driver: install the driver, or in a "
            "container start it with --gpus all (NVIDIA Container Toolkit)"
        )
    return None
