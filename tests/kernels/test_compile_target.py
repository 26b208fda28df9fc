"""Kernels are written for the CPU that Numba compiles for, which need not be the host."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

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
NAMED = """
from kernels.cpu.numba_helpers import compile_target, cpu_has
from kernels.cpu.vector_octets import LANES
from sol_core.models.devices import cpu_has_bf16
from sol_core.models.devices import cpu_name
assert compile_target()[0] == "haswell"
assert cpu_has("avx2") and not cpu_has("avx512f") and LANES == 8
assert not cpu_has_bf16()
print(cpu_name())
"""


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


def test_features_are_those_switched_on_by_the_last_word():
    from kernels.cpu.numba_helpers import target_features

    assert target_features("+avx2, -avx512f,+fma,-fma,,") == {"avx2"}
    assert target_features("") == frozenset()


def test_kernels_held_to_avx2_compile_and_are_right():
    """Instructions of AVX-512 that LLVM was not to use ended the process."""
    (name,) = run_held("-c", NAMED).splitlines()
    assert "haswell, AVX2; ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2)" in name
    test = "tests/kernels/test_quantised_weights.py::test_rounded_rows_are_multiplied_in_integers"
    assert "1 passed" in run_held("-m", "pytest", "-q", "-p", "no:cacheprovider", test)
