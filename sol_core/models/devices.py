"""Chooses devices and dtypes, by name or the machine's best, and names CPUs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kernels.cpu.threads import why_no_kernels
from sol_core.errors import ConfigError
from sol_core.files.paths import DEVICE_VARIABLE

NO_GPU = "no GPU was found"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# These make torch or its libraries use another CPU's instructions, which changes sums.
HOLDING = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "MKL_CBWR",
)  # fmt: skip
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "neon": "NEON"}


def pick_device(name: str) -> torch.device:
    """Return a device by name; "auto" is ``SOL_DEVICE``, else the first usable GPU or the CPU."""
    if name == "auto":
        name = os.environ.get(DEVICE_VARIABLE, "").strip() or "auto"
    if name == "auto":
        return torch.device("cpu" if why_no_gpu() is not None else "cuda")
    device = None
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not available: {torch.cuda.device_count()} CUDA devices found"
        )
    return device


def why_no_gpu() -> str | None:
    """Return why torch cannot compute on a GPU here; None if it can."""
    if not torch_has_gpu_code():
        return "torch was built without CUDA"
    if not torch.cuda.is_available():
        if (driver := driver_version()) == "0.0":
            return NO_GPU
        needed = f"torch needs {torch.version.cuda}: install a newer driver"
        return f"the NVIDIA driver knows CUDA {driver}, {needed}"
    major, minor = torch.cuda.get_device_capability()
    # Machine code for the card's generation, or code that can be compiled for it.
    names = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
    has_code = any(
        (int(first), int(second)) <= (major, minor) and (kind == "compute" or int(first) == major)
        for kind, first, second in names
    )
    if torch.version.hip is not None or has_code:
        return None
    return (
        f"this torch has no code for {torch.cuda.get_device_name()} (compute capability "
        f"{major}.{minor}), only for {', '.join(torch.cuda.get_arch_list())}"
    )


def driver_version() -> str:
    """Return the driver's CUDA version; "0.0" without a driver."""
    ask: Any = getattr(torch._C, "_cuda_getDriverVersion", lambda: 0)  # only in CUDA builds
    version = ask()
    return f"{version // 1000}.{version % 1000 // 10}"


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return a dtype by name; "auto" is bfloat16 if the device has units for it."""
    if name == "auto":
        if device.type == "cuda":
            has_units = torch.cuda.get_device_capability(device) >= (8, 0)
            return torch.bfloat16 if has_units else torch.float16
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"dtype must be auto, {', '.join(DTYPES)}, got {name!r}")
    if name == "float16" and device.type == "cpu":
        raise ConfigError("dtype float16 needs a CUDA device; use float32 or bfloat16 on a CPU")
    return DTYPES[name]


def use_device(device: torch.device) -> None:
    """Make a CUDA device this thread's current one, used for pinned memory and waits."""
    if device.type == "cuda" and device.index not in (None, torch.cuda.current_device()):
        torch.cuda.set_device(device)


def from_host(numbers: ArrayLike, device: torch.device) -> Tensor:
    """Copy integers (nested lists or an array) to a device as int64."""
    # By numpy: after a step, which empties the caches, a torch operation takes 10 to 50 µs.
    made = torch.from_numpy(np.array(numbers, np.int64))
    return (made.pin_memory() if device.type == "cuda" else made).to(device, non_blocking=True)


def torch_has_gpu_code() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None


def cpu_kernels() -> str:
    """Return "compiled", or the first line of why torch computes a CPU's steps."""
    if (reason := why_no_kernels()) is None:
        return "compiled"
    return f"none, torch computes all steps, slowly: {reason.splitlines()[0]}"


def cpu_has_bf16() -> bool:
    """Return whether torch is fast in bfloat16; ``ATEN_CPU_CAPABILITY`` may prevent it."""
    has_library = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if has_library is None or has_instructions is None:
        return False
    is_held = not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return not is_held and bool(has_library()) and bool(has_instructions())


def cpu_name() -> str:
    """Return the maker's name of the CPU, LLVM's name and vectors of the CPU that kernels are
    compiled for, and the set variables of ``HOLDING``."""
    maker = platform.processor()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = (line for line in text.splitlines() if line.startswith("model name"))
        maker = next(names, "").partition(":")[2].strip() or maker
    held = ", ".join(f"{name}={os.environ[name]}" for name in HOLDING if os.environ.get(name))
    kinds = (_compiled_for(), held)
    return f"{maker} ({'; '.join(filter(None, kinds))})"


def _compiled_for() -> str:
    if why_no_kernels() is not None:
        return "no kernels"
    from llvmlite.binding import get_host_cpu_name

    from kernels.cpu.numba_helpers import compile_target, cpu_has

    host, target = get_host_cpu_name(), compile_target()[0]
    vectors = next((name for feature, name in _VECTORS.items() if cpu_has(feature)), None)
    name = target if host == target else f"{host} as {target}"
    return ", ".join(filter(None, (name, vectors)))
