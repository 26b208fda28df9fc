"""Real workers on a database of their own; whatever a test starts is killed at its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main as cli
from app.host.database import DATABASE_VARIABLE, open_database
from app.host.paths import DataDir
from app.web.services import build_services
from tests.app.command_line import Finished
from tests.app.fake_server import public_servers
from tests.support.fake_engine import FakeEngine, fake_load

STAND_IN = Path(__file__).with_name("job_stand_in.py")


@pytest.fixture
def data_dir(tmp_path):
    place = DataDir(tmp_path / "data")
    place.prepare()
    return place


@pytest.fixture
def database_url(request, monkeypatch):
    """None for SQLite in the data directory; with the parameter "postgresql" a server's."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    url = request.getfixturevalue("postgres_server").emptied()
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    return url


@pytest.fixture
def store(data_dir, database_url):
    with open_database(data_dir) as opened:
        yield opened


@pytest.fixture
def services(data_dir):
    """Of the stand-in engine, whose model is there."""
    made = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    made.loader.wait(lambda: False)
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    with public_servers(tmp_path, monkeypatch) as start:
        yield start


@pytest.fixture
def stand_in_command(data_dir):
    """The command line of a worker whose engine counts; options as ``run_worker``'s."""

    def command(**options):
        text = json.dumps({"poll_s": 0.05, **options})
        return [sys.executable, "-W", "error", str(STAND_IN), str(data_dir.root), text]

    return command


@pytest.fixture
def start_worker(stand_in_command):
    workers = []

    def start(**options):
        workers.append(
            subprocess.Popen(
                stand_in_command(**options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )
        )
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()


@pytest.fixture
def run(data_dir, monkeypatch, capsys):
    """Run a command in this process, on the test's data directory."""
    before = dict(os.environ)
    monkeypatch.setenv("SOL_DATA_DIR", str(data_dir.root))
    monkeypatch.delenv("SOL_DEBUG", raising=False)

    def call(*argv):
        try:
            status = cli.main(argv)
        except SystemExit as leave:  # argparse: help and usage errors
            status = int(leave.code or 0)
        return Finished(status=status, **capsys.readouterr()._asdict())

    yield call
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip("this process may not mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
