"""The data directory: which one, what is in it, and what happens when it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.host import paths
from app.host.environment import prepare as prepare_environment
from app.host.errors import DataDirError
from app.host.paths import DataDir


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOL_DATA_DIR", raising=False)


def test_option_wins_over_variable_wins_over_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert DataDir.resolve(None).root.name == "sol-explorer"
    monkeypatch.setenv("SOL_DATA_DIR", str(tmp_path / "variable"))
    assert DataDir.resolve(None).root == tmp_path / "variable"
    assert DataDir.resolve(str(tmp_path / "option")).root == tmp_path / "option"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_DATA_DIR", "  ")
    assert DataDir.resolve(None).root.name == "sol-explorer"


def test_relative_and_home_folders_become_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert DataDir.resolve("here").root == tmp_path / "here"
    assert DataDir.resolve("~/there").root == tmp_path / "home" / "there"


@pytest.mark.parametrize("argument", ["", "   ", "~no-such-user-here/x"])
def test_a_name_that_means_no_folder(argument: str) -> None:
    with pytest.raises(DataDirError):
        DataDir.resolve(argument)


def test_prepare_makes_everything_inside_and_leaves_no_probe(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "a" / "b")
    data_dir.prepare()
    data_dir.prepare()
    found = {path.name for path in data_dir.root.iterdir()}
    assert found == {"models", "policies", "logs", "corpora", "jobs"}
    for place in (
        data_dir.models,
        data_dir.database,
        data_dir.lock_file,
        data_dir.worker_lock_file,
    ):
        assert place.parent == data_dir.root


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match=r"cannot write .*--data-dir"):
        DataDir(tmp_path / "file").prepare()


def test_a_read_only_file_system() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc, which nobody can write to, root included")
    with pytest.raises(DataDirError, match="cannot write"):
        DataDir(Path("/proc/self/data")).prepare()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(DataDirError, match=r"is full \(5 MB free"):
        DataDir(tmp_path).prepare()


@pytest.fixture
def clean_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function sets is undone after the test."""
    names = ["HF_HOME", "HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "GRADIO_TEMP_DIR", "NO_PROXY"]
    for name in [*names, "no_proxy", "GRADIO_ANALYTICS_ENABLED", "HF_DATASETS_CACHE"]:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("clean_variables")
def test_libraries_write_into_the_data_directory_and_report_nothing(tmp_path: Path) -> None:
    prepare_environment(tmp_path)
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "GRADIO_TEMP_DIR"):
        assert Path(os.environ[name]).is_relative_to(tmp_path)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not Path(os.environ["HF_TOKEN_PATH"]).is_relative_to(tmp_path), "login would be lost"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("clean_variables")
def test_what_the_user_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    monkeypatch.setenv("NO_PROXY", "intranet, 127.0.0.1")
    prepare_environment(tmp_path)
    prepare_environment(tmp_path)
    assert os.environ["HF_HOME"] == "/elsewhere"
    assert "HF_TOKEN_PATH" not in os.environ
    assert os.environ["NO_PROXY"].replace(" ", "") == "intranet,127.0.0.1,localhost"
