"""The Tab key: a real bash with argcomplete's global completion, as the README says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.tiny_project import PROJECT

BASH = """
eval "$(activate-global-python-argcomplete --dest=-)"
COMP_LINE="python launch.py $1" COMP_POINT=$((17 + ${#1})) COMP_TYPE=9
COMP_WORDS=(python launch.py $1)
_python_argcomplete_global python
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("eva", {"evaluate"}),
        ("generate --dtype ", {"auto", "float32", "bfloat16", "float16"}),
        ("bench k", {"kernels"}),
    ],
)
def test_bash_completes_what_is_typed_after_launch_py(typed: str, completed: set[str]) -> None:
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", typed],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == completed, done.stderr
