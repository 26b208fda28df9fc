"""Names of policies and the folders behind them."""

import json
import os
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sol_core.policy.info
from app.host.errors import PolicyNotFoundError
from app.policies.library import PolicyLibrary
from sol_core.policy.files.locate import NAME_LENGTH


@pytest.fixture(autouse=True)
def _readable(monkeypatch):
    """A stand-in that reads only JSON."""
    monkeypatch.setitem(
        vars(sol_core.policy.info),
        "read_policy_info",
        lambda folder: SimpleNamespace(**json.loads((folder / "config.json").read_text())),
    )


@pytest.fixture
def library(data_dir, tmp_path):
    return PolicyLibrary(data_dir, shipped=tmp_path / "shipped")


def put(folder, age_s=0.0):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    made_at = 1_700_000_000 - age_s
    os.utime(folder / "config.json", (made_at, made_at))
    return folder


def test_the_shipped_one_comes_first_then_the_newest(library, data_dir, tmp_path):
    put(data_dir.policies / "old", age_s=100)
    put(data_dir.policies / "new one")
    assert library.names() == ["new one", "old"]
    put(tmp_path / "shipped")
    put(data_dir.policies / "default")  # a folder that took the shipped one's name is not it
    put(data_dir.policies / ".incoming-x")
    (data_dir.policies / "empty").mkdir()
    (data_dir.policies / "file").touch()
    assert library.names() == ["default", "new one", "old"]
    assert [one.is_shipped for one in library.list_all()[0]] == [True, False, False]
    assert library.resolve("default") == tmp_path / "shipped"


def test_names_and_folders_are_resolved_and_a_browser_names_no_folder(
    library, data_dir, tmp_path, monkeypatch
):
    with pytest.raises(PolicyNotFoundError, match="none is stored yet, train one"):
        library.resolve("p")
    stored = put(data_dir.policies / "p")
    elsewhere = put(tmp_path / "work" / "mine")
    monkeypatch.chdir(tmp_path / "work")
    assert library.resolve("p") == library.resolve_name("p") == stored
    for name in ("mine", "./mine", str(elsewhere), str(stored)):
        assert library.resolve(name) in (elsewhere, stored)
        with pytest.raises(PolicyNotFoundError):
            library.resolve_name(name)
    for name, said in (
        ("", "name is empty"),
        ("nobody", r"no policy 'nobody': stored are p, or the path"),
        ("~no-such-user-here/x", "no policy"),
        (".", "holds no policy: it has no config.json"),
    ):
        with pytest.raises(PolicyNotFoundError, match=said):
            library.resolve(name)


@given(st.text(max_size=100))
def test_any_name_becomes_one_that_a_folder_may_have(library, data_dir, wanted):
    name = library.unique_name(wanted)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name)
    assert len(name) <= NAME_LENGTH
    assert name.lower() != "default"
    assert name == name.strip(" .")
    assert (data_dir.policies / name).parent == data_dir.policies
