"""Real SQLite files and real child processes; nothing is mocked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_python import StartPython, start_child

from storage import Store, open_store


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "sol.sqlite3"


@pytest.fixture
def store(database_path: Path) -> Iterator[Store]:
    with open_store(database_path) as opened:
        yield opened


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """``start_child``; a child that is left over is killed at the end of the test."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        children.append(start_child(code, *arguments))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()
