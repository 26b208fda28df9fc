"""Real SQLite files, a real PostgreSQL and real child processes; nothing is mocked."""

import pytest

from storage import open_store
from tests.storage.child_python import ENGINES, start_child


@pytest.fixture
def database_path(tmp_path):
    return tmp_path / "sol.sqlite3"


@pytest.fixture
def postgres_url(request):
    """A blank database on the tests' server."""
    with request.getfixturevalue("postgres_server").database() as url:
        yield url


@pytest.fixture(params=ENGINES)
def location(request, tmp_path):
    """A place for a database without rows; whoever uses it is tested on both engines."""
    if request.param == "sqlite":
        return tmp_path / "sol.sqlite3"
    return request.getfixturevalue("postgres_server").emptied()


@pytest.fixture
def store(location):
    with open_store(location) as opened:
        yield opened


@pytest.fixture
def start_python():
    """``start_child``; a child that is left over is killed at the end of the test."""
    children = []

    def start(code, *arguments):
        children.append(start_child(code, *arguments))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()
