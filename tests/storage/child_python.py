"""Start children that run this checkout's ``storage``, on a file or a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ENGINES = ("sqlite", "postgresql")
StartPython = Callable[..., "subprocess.Popen[str]"]


PRELUDE = """
from pathlib import Path
from storage import open_store
def open_at(text, **options):
    return open_store(text if "://" in text else Path(text), **options)
"""


def start_child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start ``python -c CODE ARGUMENTS`` with pipes; errors go to the same pipe as output.

    The code may call ``open_at``, which is ``open_store`` with the location as text.
    """
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
