"""Tritons that torch brings to GPU users, beside the one that a CPU's environment has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERSIONS = ("3.4.0", "3.6.0", "3.7.1")


def environment_with_triton(version: str, folder: Path) -> dict[str, str]:
    """Fetch a Triton from PyPI into an empty folder; skips the test where there is none.

    Returns: variables with which a child imports it before the installed one.
    """
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    done = subprocess.run([*command, str(folder), f"triton=={version}"], check=False)
    if done.returncode != 0:
        pytest.skip(f"PyPI gives no Triton {version} here")
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "TRITON_CACHE_DIR": str(folder / "cache"),
    }
