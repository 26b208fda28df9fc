"""Policies through the Hub's mixin: folders, a stand-in for the Hub, and what is refused."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import PyTorchModelHubMixin

from sol_core.errors import DownloadError
from sol_core.files.paths import SHIPPED_POLICY
from sol_core.policy.files.archive import FormerName, PolicyNotes, write_notes
from sol_core.policy.files.locate import locate_policy
from sol_core.policy.info import MAX_BYTES
from sol_core.policy.policy import Policy, load_policy
from tests.support.hub_stand_in import ask_at, hub_stand_in
from tests.support.tiny_policies import save_tiny_policy

FILES = sorted(MAX_BYTES)


@pytest.fixture
def folder(model, tmp_path):
    return save_tiny_policy(model, tmp_path / "tiny")


@pytest.fixture
def hub(monkeypatch):
    with hub_stand_in() as running:
        ask_at(running.url, monkeypatch)
        yield running


@pytest.fixture
def stored(hub, folder):
    """A policy on the Hub."""
    hub.repositories["me/tiny"] = {name: (folder / name).read_bytes() for name in FILES}
    return "me/tiny"


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_comes_through_the_mixin_unchanged(model, folder, tmp_path):
    policy = Policy.from_pretrained(folder, model=model)
    assert isinstance(policy, PyTorchModelHubMixin)
    assert policy.info == load_policy(folder, model).info
    target = tmp_path / "new"
    target.mkdir()
    (target / "notes.json").write_text("{}")  # stays
    policy.save_pretrained(target)
    assert _bytes(target) == _bytes(folder) | {"notes.json": b"{}"}
    assert Policy.from_pretrained(str(target), model=model).info == policy.info


def test_a_policy_is_pushed_pulled_once_and_read_without_a_network(
    model, folder, hub, tmp_path, monkeypatch, caplog
):
    policy = load_policy(folder, model)
    policy.push_to_hub("me/pushed", token=hub.token)
    files = hub.repositories["me/pushed"]
    assert {name: files[name] for name in FILES} == _bytes(folder)

    def pulled(**options):
        return Policy.from_pretrained("me/pushed", model=model, **options).info

    hub.fetched.clear()
    cache = tmp_path / "cache"
    assert pulled(cache_dir=cache) == pulled(cache_dir=cache) == policy.info
    assert sorted(hub.fetched) == FILES, "the cache had it the second time"
    assert pulled(cache_dir=cache, local_files_only=True) == policy.info
    ask_at("http://127.0.0.1:9", monkeypatch)
    assert pulled(cache_dir=cache) == policy.info
    assert "the Hub is not reached" in caplog.text
    with pytest.raises(DownloadError, match="did not give or take me/pushed"):
        pulled(cache_dir=tmp_path / "other")


def test_a_policy_is_found_by_every_name(folder, stored, tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    mine = data_dir / "policies" / "mine"
    shutil.copytree(folder, mine)
    write_notes(mine, PolicyNotes(former_names=(FormerName("before", "2026-01-01T00:00:00"),)))
    assert locate_policy("default", data_dir) == SHIPPED_POLICY
    assert locate_policy("mine", data_dir) == mine
    assert locate_policy("before", data_dir) == mine
    assert locate_policy(str(folder), data_dir) == folder
    monkeypatch.chdir(folder.parent)
    assert locate_policy("./tiny", data_dir) == Path("./tiny")
    fetched = locate_policy(stored, data_dir)
    assert fetched.is_relative_to(data_dir / "models" / "hub")
    assert _bytes(fetched) == _bytes(folder)
