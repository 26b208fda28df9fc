"""The data directory: which one, what is in it, and what happens when it cannot be used."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.host import environment, paths
from app.host.environment import KEPT_DAYS, kernel_cache_folder, remove_unused_caches
from app.host.errors import AppError, DataDirError
from app.host.paths import DataDir
from app.host.processes import hold_instance_lock, publish_url, read_note
from tests.app.tiny_project import PROJECT


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("SOL_DATA_DIR", raising=False)


def test_option_wins_over_variable_wins_over_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("SOL_DATA_DIR", "  ")
    assert DataDir.resolve(None).root.name == "sol-explorer"
    monkeypatch.setenv("SOL_DATA_DIR", str(tmp_path / "variable"))
    assert DataDir.resolve(None).root == tmp_path / "variable"
    assert DataDir.resolve(str(tmp_path / "option")).root == tmp_path / "option"


@pytest.mark.parametrize("argument", ["", "   ", "~no-such-user-here/x"])
def test_a_name_that_means_no_folder(argument):
    with pytest.raises(DataDirError):
        DataDir.resolve(argument)


def test_prepare_makes_everything_inside_and_leaves_no_probe(tmp_path):
    data_dir = DataDir(tmp_path / "a" / "b")
    data_dir.prepare()
    data_dir.prepare()
    found = {path.name for path in data_dir.root.iterdir()}
    assert found == {"models", "policies", "logs", "corpora", "jobs"}


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc/self/data")):  # which not even root can
        with pytest.raises(DataDirError, match=r"cannot write .*--data-dir"):
            DataDir(place).prepare()


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(DataDirError, match=r"is full \(5 MB free"):
        DataDir(tmp_path).prepare()


def test_libraries_write_into_the_data_directory_and_what_the_user_set_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    root = tmp_path / "data"
    environment.prepare(root)
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "GRADIO_TEMP_DIR"):
        assert Path(os.environ[name]).is_relative_to(root)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not Path(os.environ["HF_TOKEN_PATH"]).is_relative_to(root), "login would be lost"
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert os.environ["NUMBA_CACHE_DIR"] == str(kernel_cache_folder(root / "cache/numba"))
    assert not root.exists()
    own = {"HF_HOME": "/elsewhere", "GOMP_SPINCOUNT": "5"}
    monkeypatch.setattr(os, "environ", own | {"NO_PROXY": "intranet, 127.0.0.1"})
    for _ in range(2):
        environment.prepare(root)
    assert own.items() <= os.environ.items()
    assert "HF_TOKEN_PATH" not in os.environ
    assert os.environ["NO_PROXY"].replace(" ", "") == "intranet,127.0.0.1,localhost"


def test_any_changed_kernel_source_means_another_folder(tmp_path):
    sources = tmp_path / "kernels" / "deep"
    sources.mkdir(parents=True)
    helper = sources / "helper.py"
    seen = set()
    for text in ("a = 1", "a = 2"):
        helper.write_text(text)
        seen.add(kernel_cache_folder(tmp_path, sources.parent))
    helper.rename(sources / "other.py")
    seen.add(kernel_cache_folder(tmp_path, sources.parent))
    assert len(seen) == 3
    assert kernel_cache_folder(tmp_path, sources.parent) in seen


def test_only_long_unused_caches_are_removed(tmp_path):
    now = time.time()
    for name, days in (("current", 100), ("recent", KEPT_DAYS - 1), ("old", KEPT_DAYS + 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code").write_text("")
        os.utime(tmp_path / name, (now - days * 86_400,) * 2)
    remove_unused_caches(tmp_path / "current")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "recent"]
    assert (tmp_path / "current").stat().st_mtime > now - 60
    remove_unused_caches(tmp_path / "missing" / "folder")


HOLD = """
import sys, pathlib
from app.host.processes import hold_instance_lock
with hold_instance_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_where_the_first_runs(tmp_path):
    path = tmp_path / "serve.lock"
    with hold_instance_lock(path):
        with pytest.raises(AppError, match=r"still starting .*--data-dir"):
            hold_instance_lock(path).__enter__()
        publish_url(path, "http://127.0.0.1:7861")
        with pytest.raises(AppError, match=r"at http://127\.0\.0\.1:7861 \(process \d"):
            hold_instance_lock(path).__enter__()
    with hold_instance_lock(path):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path):
    path = tmp_path / "serve.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AppError, match=f"process {holder.pid}"):
            hold_instance_lock(path).__enter__()
        holder.kill()
        holder.wait()
    with hold_instance_lock(path):
        pass


def test_a_look_at_the_lock_leaves_the_holders_note(tmp_path):
    """As filelock 3 does it."""
    path = tmp_path / "serve.lock"
    with hold_instance_lock(path):
        publish_url(path, "http://127.0.0.1:7861")
        os.close(os.open(path, os.O_RDWR | os.O_TRUNC))
        with pytest.raises(AppError, match=r"at http://127\.0\.0\.1:7861"):
            hold_instance_lock(path).__enter__()
    assert read_note(path) == {}
    assert {entry.name for entry in tmp_path.iterdir()} <= {"serve.lock"}
