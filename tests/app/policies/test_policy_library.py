"""Names of policies and the folders behind them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sol_core.policy
from app.host.errors import AppError, PolicyNotFoundError
from app.host.paths import DataDir
from app.policies.library import PolicyLibrary
from sol_core.errors import SolError
from sol_core.policy.files.locate import NAME_LENGTH


@pytest.fixture(autouse=True)
def _readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that reads only whether config.json is JSON."""

    def read(folder: Path) -> Any:
        try:
            return SimpleNamespace(**json.loads((folder / "config.json").read_text()))
        except ValueError as error:
            raise SolError(f"{folder} is damaged") from error

    monkeypatch.setitem(vars(sol_core.policy), "read_policy_info", read)


@pytest.fixture
def library(data_dir: DataDir, tmp_path: Path) -> PolicyLibrary:
    return PolicyLibrary(data_dir, shipped=tmp_path / "shipped")


def put(folder: Path, age_s: float = 0.0, config: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"weights")
    made_at = 1_700_000_000 - age_s
    os.utime(folder / "config.json", (made_at, made_at))
    return folder


def test_the_shipped_one_comes_first_then_the_newest(
    library: PolicyLibrary, data_dir: DataDir, tmp_path: Path
) -> None:
    put(data_dir.policies / "old", age_s=100)
    put(data_dir.policies / "new one")
    assert library.names() == ["new one", "old"]
    put(tmp_path / "shipped")
    put(data_dir.policies / "default")  # a folder that took the shipped one's name is not it
    put(data_dir.policies / ".deleted-x")
    (data_dir.policies / "empty").mkdir()
    (data_dir.policies / "file").touch()
    assert library.names() == ["default", "new one", "old"]
    assert [(policy.name, policy.is_shipped) for policy in library.list_all()[0]] == [
        ("default", True),
        ("new one", False),
        ("old", False),
    ]
    assert library.resolve("default") == tmp_path / "shipped"


def test_an_unreadable_policy_hides_only_itself(library: PolicyLibrary, data_dir: DataDir) -> None:
    put(data_dir.policies / "good")
    put(data_dir.policies / "bad", config="{")
    (good,), (damaged,) = library.list_all()
    assert good.name == "good"
    assert (damaged.name, damaged.is_shipped) == ("bad", False)
    assert "bad is damaged" in damaged.problem


def test_names_and_folders_are_resolved(
    library: PolicyLibrary,
    data_dir: DataDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = put(data_dir.policies / "p")
    elsewhere = put(tmp_path / "work" / "mine")
    monkeypatch.chdir(tmp_path / "work")
    assert library.resolve("p") == stored
    for name in ("mine", "./mine", str(elsewhere)):
        assert library.resolve(name) == elsewhere


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default", "no policy is shipped"),
        ("", "name is empty"),
        ("nobody", r"no policy 'nobody': stored are p, or the path"),
        ("../policies/q", "no policy"),
        ("~no-such-user-here/x", "no policy"),
        (".", "holds no policy: it has no config.json"),
    ],
)
def test_what_is_no_policy_is_said(
    library: PolicyLibrary,
    data_dir: DataDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put(data_dir.policies / "p")
    with pytest.raises(PolicyNotFoundError, match=said):
        library.resolve(name)


def test_nothing_stored_is_said(library: PolicyLibrary) -> None:
    with pytest.raises(PolicyNotFoundError, match="none is stored yet, train one"):
        library.resolve("p")


def test_deleting(library: PolicyLibrary, data_dir: DataDir, tmp_path: Path) -> None:
    put(tmp_path / "shipped")
    put(data_dir.policies / "p")
    put(data_dir.policies / "q")
    library.delete("p")
    assert library.names() == ["default", "q"]
    assert [path.name for path in data_dir.policies.iterdir()] == ["q"]
    with pytest.raises(AppError, match="cannot be deleted"):
        library.delete("default")
    for name in ("p", "", "../policies/q", str(data_dir.policies / "q"), ".", ".."):
        with pytest.raises(PolicyNotFoundError):
            library.delete(name)
    assert library.names() == ["default", "q"]


def test_adopting_moves_and_numbers(
    library: PolicyLibrary, data_dir: DataDir, tmp_path: Path
) -> None:
    names = [
        library.adopt(put(data_dir.jobs / str(n) / "policy"), "my policy", str(n)) for n in range(3)
    ]
    assert names == ["my policy", "my policy-2", "my policy-3"]
    assert library.adopt(put(data_dir.jobs / "d" / "policy"), "default", "d") == "default-2"
    assert not (data_dir.jobs / "0" / "policy").exists()
    with pytest.raises(OSError, match="No such file"):
        library.adopt(tmp_path / "missing", "x", "y")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=100))
def test_any_name_becomes_one_that_a_folder_may_have(
    library: PolicyLibrary, data_dir: DataDir, wanted: str
) -> None:
    name = library.unique_name(wanted)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name)
    assert len(name) <= NAME_LENGTH
    assert name.lower() != "default"
    assert name == name.strip(" .")
    assert (data_dir.policies / name).parent == data_dir.policies


def test_long_names_are_numbered_within_their_length(
    library: PolicyLibrary, data_dir: DataDir
) -> None:
    for _ in range(2):
        put(data_dir.policies / library.unique_name("x" * 200))
    assert sorted(map(len, library.names())) == [NAME_LENGTH, NAME_LENGTH]


def test_copies_are_complete_or_not_there(
    library: PolicyLibrary, data_dir: DataDir, tmp_path: Path
) -> None:
    put(data_dir.policies / "p")
    for target in (tmp_path / "a" / "new", tmp_path / "empty"):
        if target.name == "empty":
            target.mkdir()
        library.copy_out("p", target)
        assert {path.name for path in target.iterdir()} == {"config.json", "model.safetensors"}
        assert {path.name for path in target.parent.iterdir()} <= {"new", "empty", "a", "data"}
    with pytest.raises(OSError, match="not empty"):
        library.copy_out("p", tmp_path / "a")
    assert library.names() == ["p"]


def test_a_browser_names_policies_and_never_folders(
    library: PolicyLibrary, data_dir: DataDir, tmp_path: Path
) -> None:
    stored = put(data_dir.policies / "mine")
    elsewhere = put(tmp_path / "elsewhere")
    assert library.resolve_name("mine") == stored
    assert library.resolve(str(elsewhere)) == elsewhere
    for name in (str(elsewhere), "../policies/mine", str(stored), ""):
        with pytest.raises(PolicyNotFoundError):
            library.resolve_name(name)
