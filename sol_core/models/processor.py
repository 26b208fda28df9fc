"""The kind of CPU that computes: its name, what kernels are compiled for, libraries held back."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from kernels.cpu.threads import why_no_kernels

# With these set, torch or its libraries take instructions, and so sums, of another kind of CPU.
HOLDING = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_CBWR",
)
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "neon": "NEON"}


def cpu_name() -> str:
    """Return the CPU's name by its maker, where the system tells, LLVM's name and vectors of the
    CPU that kernels are compiled for, and the variables that hold libraries back."""
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
