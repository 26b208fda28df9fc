"""Start children that run this checkout's ``storage``, on a file or a server."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ENGINES = ("sqlite", "postgresql")
PRELUDE = """
from pathlib import Path
from storage import open_store
def open_at(text, **options):
    return open_store(text if "://" in text else Path(text), **options)
"""


def let_go(children):
    """Let children that have printed "ready" and read a line go at the same moment."""
    for child in children:
        first = child.stdout.readline()
        assert first == "ready\n", first + child.stdout.read()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()


def outputs_of(children):
    """Wait for children that all end well; what else they print."""
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children), outputs
    return outputs


def start_all(children):
    """``let_go``, then ``outputs_of``."""
    let_go(children)
    return outputs_of(children)


def start_child(code, *arguments):
    """Start ``python -c CODE ARGUMENTS`` with pipes; errors go to the same pipe as output."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
