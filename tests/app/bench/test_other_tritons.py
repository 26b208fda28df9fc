"""Every shipped launch, compiled for every card by the installed Triton and by those that GPU users
have, fetched from PyPI into folders of their own; and the interpreter's numbers with each."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from app.bench.ahead_of_time import ARCHITECTURES, SHARED_LIMIT, compile_in_child

ROOT = Path(__file__).parents[3]
CARDS = (75, 80, 86, 89, 90, 120)
VERSIONS = ("3.4.0", "3.6.0", "3.7.1")
FEW_SPILLED = 150  # bytes a thread: a few registers


def environment_with_triton(version, folder):
    """Fetch a Triton from PyPI into an empty folder; skips the test where there is none."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    done = subprocess.run([*command, str(folder), f"triton=={version}"], check=False)
    if done.returncode != 0:
        pytest.skip(f"PyPI gives no Triton {version} here")
    return {**os.environ, "PYTHONPATH": str(folder), "TRITON_CACHE_DIR": str(folder / "cache")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_few_registers_spill_and_all_kernels_fit_their_chip():
    variants = defaultdict(set)
    for binary in compile_in_child():
        name = f"{binary.kernel} {binary.variant} on sm_{binary.architecture}"
        assert binary.spills <= FEW_SPILLED, f"{name} spills {binary.spills} bytes a thread"
        assert 0 < binary.shared_bytes + 1 <= SHARED_LIMIT[binary.architecture], name
        # A block's threads share 65,536 registers.
        assert 0 < binary.registers * 32 * binary.num_warps <= 65_536, name
        variants[binary.kernel].add((binary.variant, binary.architecture))
    assert all(len(found) % len(ARCHITECTURES) == 0 for found in variants.values())


@pytest.fixture(params=VERSIONS)
def environment(request, tmp_path_factory):
    return environment_with_triton(
        request.param, tmp_path_factory.mktemp(f"triton-{request.param}")
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_launch_compiles_for_every_card(environment, tmp_path):
    cards = ",".join(f"sm_{card}" for card in CARDS)
    command = [sys.executable, "launch.py", "bench", "kernels", "--compile", cards, "--json"]
    command += ["--data-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    result = json.loads(done.stdout)
    assert done.returncode == 0, result["problems"]
    assert len(result["kernels"]) == len(CARDS) * len({row["kernel"] for row in result["kernels"]})
    for row in result["kernels"]:
        limit = SHARED_LIMIT[int(row["card"].removeprefix("sm_"))]
        assert 0 <= row["shared_bytes"] <= limit, row


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_interpreters_numbers_are_the_references(environment):
    files = [f"tests/kernels/test_triton_{name}.py" for name in ("rows", "attention")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
