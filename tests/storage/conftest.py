"""Real SQLite files, a real PostgreSQL and real child processes; nothing is mocked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Store, open_store
from tests.storage.child_python import ENGINES, StartPython, start_child


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "sol.sqlite3"


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A blank database on the tests' server."""
    with request.getfixturevalue("postgres_server").database() as url:
        yield url


@pytest.fixture(params=ENGINES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place for a database without rows; whoever uses it is tested on both engines."""
    if request.param == "sqlite":
        return tmp_path / "sol.sqlite3"
    url: str = request.getfixturevalue("postgres_server").emptied()
    return url


@pytest.fixture
def store(location: Path | str) -> Iterator[Store]:
    with open_store(location) as opened:
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
