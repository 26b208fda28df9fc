"""Triton kernels as they ship, compiled to machine code for a GPU that is not here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.bench.ahead_of_time import SHARED_LIMIT, Binary, compile_in_child
from app.bench.kernels import compile_kernels
from sol_core.errors import ConfigError
from tests.app.bench.test_other_tritons import VERSIONS, environment_with_triton

ROOT = Path(__file__).parents[3]

KERNELS = {
    "activate_rows", "attend_pages", "list_channels", "mass_outside_pages", "multiply_rows",
    "prepare_rows", "rank_rows", "rotate_and_write_rows", "weigh_pages",
}  # fmt: skip


@pytest.mark.timeout(600)
def test_kernels_compile_for_a_t4_with_a_triton_that_gpu_users_have(tmp_path):
    """The largest configuration of each; ``test_other_tritons.py`` has all, for all cards."""
    environment = environment_with_triton(VERSIONS[-1], tmp_path)
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "app.bench.ahead_of_time", "75", "--sample"]
    child = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    made = [Binary(**record) for record in json.loads(child.stdout)]
    assert {binary.kernel for binary in made} == KERNELS
    for binary in made:
        assert binary.error == "", binary
        assert binary.shared_bytes <= SHARED_LIMIT[75], binary


def test_a_failing_child_says_why():
    with pytest.raises(RuntimeError, match=r"failed:\n[\s\S]*must be among"):
        compile_in_child([7])


def test_every_card_has_a_row_and_an_error_ends_in_it(monkeypatch):
    """With the most over all configurations."""
    made = [
        Binary("attend_pages", "a", 75, 90, 8, 9, 4),
        Binary("attend_pages", "c", 75, 60, 0, 9, 4),
        Binary("attend_pages", "b", 75, 0, 0, 0, 0, "CompilationError: no"),
        Binary("attend_pages", "a", 86, 60, 0, 5, 4),
    ]
    asked = []
    monkeypatch.setattr(
        "app.bench.kernels.compile_in_child", lambda archs: asked.append(archs) or made
    )
    result = compile_kernels("sm_75, sm_86")
    assert asked == [[75, 86]]
    assert [tuple(row.values()) for row in result["kernels"]] == [
        ("attend_pages", "sm_75", 90, 8, 9, "CompilationError: no"),
        ("attend_pages", "sm_86", 60, 0, 5, None),
    ]
    assert result["problems"] == ["attend_pages for sm_75: CompilationError: no"]
    for wrong in ("", "sm_7", "86"):
        with pytest.raises(ConfigError, match="some of sm_75, sm_80"):
            compile_kernels(wrong)
