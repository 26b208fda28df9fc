"""Kernels and the real model held to AVX2, as a CPU without AVX-512 computes."""

import pytest

from tests.kernels.test_compile_target import run_held

PYTEST = ("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider")
# Triton's kernels are not for CPUs; other tests of threads start processes of their own.
LEFT_OUT = ("triton_attention", "triton_rows", "compile_target")
MODEL = "models/test_few_rows models/test_previewed_head generation/test_scoring lens/test_lens"


@pytest.mark.timeout(1800)
def test_kernels_held_to_avx2_are_the_references():
    ignored = (f"--ignore=tests/kernels/test_{name}.py" for name in LEFT_OUT)
    done = run_held(
        *PYTEST, "tests/kernels", "--ignore=tests/kernels/threads", *ignored, timeout=1700
    )
    assert " passed" in done


@pytest.mark.model
@pytest.mark.timeout(1800)
def test_the_model_held_to_avx2_computes_in_both_formats():
    files = (f"tests/sol_core/{name}.py" for name in MODEL.split())
    assert " passed" in run_held(*PYTEST, "-m", "model", *files, timeout=1700)
