"""Tests in a process whose kernels and libraries are held to AVX2, as on a CPU without AVX-512."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEATURES = (
    "64bit sse sse2 sse3 ssse3 sse4.1 sse4.2 popcnt cx16 avx avx2 fma f16c bmi bmi2 lzcnt movbe"
)
HELD = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in FEATURES.split()),
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def run_held(*arguments, timeout=600.0):
    """``python *arguments`` in the repository; its output. Skips where there is no AVX2."""
    from kernels.cpu.numba_helpers import cpu_has

    if platform.machine().lower() not in ("x86_64", "amd64") or not cpu_has("avx2"):
        pytest.skip("this CPU has no AVX2")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | HELD, capture_output=True,
        text=True, check=False, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout
