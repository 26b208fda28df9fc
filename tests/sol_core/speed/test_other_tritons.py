"""The Tritons that GPU users have: every shipped launch compiles for every card, and the
interpreter's numbers are the references'. Each is fetched from PyPI into a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sol_core.speed.ahead_of_time import SHARED_LIMIT

ROOT = Path(__file__).parents[3]
VERSIONS = ("3.4.0", "3.6.0", "3.7.1")
CARDS = (75, 80, 86, 89, 90, 120)


@pytest.fixture(params=VERSIONS)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Variables with which a child imports that Triton before the installed one."""
    folder = tmp_path_factory.mktemp(f"triton-{request.param}")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    done = subprocess.run([*command, str(folder), f"triton=={request.param}"], check=False)
    if done.returncode != 0:
        pytest.skip(f"PyPI gives no Triton {request.param} here")
    cache = str(folder / "cache")
    return {**os.environ, "PYTHONPATH": str(folder), "TRITON_CACHE_DIR": cache}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_launch_compiles_for_every_card(environment: dict[str, str], tmp_path: Path) -> None:
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
def test_the_interpreters_numbers_are_the_references(environment: dict[str, str]) -> None:
    files = [f"tests/kernels/test_triton_{name}.py" for name in ("rows", "attention")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
