"""Start children that run this checkout's ``storage``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
StartPython = Callable[..., "subprocess.Popen[str]"]


def start_child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start ``python -c CODE ARGUMENTS`` with pipes; errors go to the same pipe as output."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
