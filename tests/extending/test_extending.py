"""The diffs of ``docs/extending.md`` apply to the tree as it is, and do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs" / "extending.md"
# The tests that the diffs bring along, and those that they must not break.
SELECTED = {
    "tests/sol_core/models/test_families.py": "gemma1",
    "tests/sol_core/decoding/test_schedules.py": "pulse or every_scheduler",
    "tests/sol_core/models/test_decode_step.py": "bit_for_bit or no_trace",
    "tests/kernels/test_mean_key.py": "mean_key",
}
KERNEL = "tests/kernels/test_soft_cap.py"
AXIS = "tests/extending/another_axis.py"  # from its labels to the page


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the tree with every diff applied."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    ignored = shutil.ignore_patterns("__pycache__", ".*", "golden", "node_modules")
    for folder in ("app", "sol_core", "kernels", "storage", "tests"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    for diff in re.findall(r"^```diff\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S):
        done = subprocess.run(
            ["git", "apply", "--verbose", "-"],
            cwd=tmp_path,
            input=diff,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "skipped" not in done.stderr.casefold(), done.stderr
    return tmp_path


@pytest.mark.timeout(900)
def test_every_worked_diff_applies_and_passes_its_tests(extended: Path) -> None:
    _passes(extended, [KERNEL])
    # Without Numba: kernels in another folder would be compiled anew, for minutes.
    (extended / "numba.py").write_text("raise ImportError('hidden by a test')\n")
    _passes(extended, [AXIS])
    _passes(extended, list(SELECTED), "-k", " or ".join(SELECTED.values()))


def _passes(folder: Path, files: list[str], *options: str) -> None:
    """All chosen tests pass, two or more in every file."""
    quiet = ["-q", "-rp", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *files, *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    for file in files:
        assert done.stdout.count(f"PASSED {file}::") >= 2, done.stdout
