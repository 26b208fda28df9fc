"""Policies through the Hub's mixin: folders, a stand-in for the Hub, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import PyTorchModelHubMixin

from sol_core.errors import DownloadError, PolicyError
from sol_core.files.places import SHIPPED_POLICY
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, load_policy
from sol_core.policy.files.archive import FormerName, PolicyNotes, write_notes
from sol_core.policy.files.locate import fetch_policy, locate_policy
from sol_core.policy.info import MAX_BYTES, PolicyInfo
from tests.support.hub_stand_in import HubStandIn, hub_stand_in
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

FILES = sorted(MAX_BYTES)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture
def folder(model: LanguageModel, tmp_path: Path) -> Path:
    return save_tiny_policy(model, tmp_path / "tiny")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_stand_in() as running:
        _ask_at(running.url, monkeypatch)
        yield running


def _ask_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT sets, had it been there when the Hub's client was imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def stored(hub: HubStandIn, folder: Path) -> str:
    """A policy on the Hub."""
    hub.repositories["me/tiny"] = {name: (folder / name).read_bytes() for name in FILES}
    return "me/tiny"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_comes_through_the_mixin_unchanged(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    policy = Policy.from_pretrained(folder, model=model)
    assert isinstance(policy, PyTorchModelHubMixin)
    assert policy.info == load_policy(folder, model).info
    target = tmp_path / "new"
    target.mkdir()
    (target / "notes.json").write_text("{}")  # stays
    policy.save_pretrained(target)
    assert _bytes(target) == _bytes(folder) | {"notes.json": b"{}"}
    assert Policy.from_pretrained(str(target), model=model).info == policy.info


def test_a_damaged_or_foreign_policy_is_refused(model: LanguageModel, folder: Path) -> None:
    with pytest.raises(PolicyError, match="give model="):
        Policy.from_pretrained(folder)
    with pytest.raises(TypeError, match="no argument 'modle'"):
        Policy.from_pretrained(folder, modle=model)
    with pytest.raises(PolicyError, match="was trained for smollm2"):
        Policy.from_pretrained(SHIPPED_POLICY, model=model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(PolicyError, match="truncated or damaged"):
        Policy.from_pretrained(folder, model=model)
    for content, words in (("[]", "schema None"), ("{", "cannot be read"), ("{}", "schema None")):
        (folder / "config.json").write_text(content)
        with pytest.raises(PolicyError, match=words):
            Policy.from_pretrained(folder, model=model)


def test_a_policy_is_pushed_pulled_once_and_read_without_a_network(
    model: LanguageModel,
    folder: Path,
    hub: HubStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = load_policy(folder, model)
    policy.push_to_hub("me/pushed", token=hub.token)
    files = hub.repositories["me/pushed"]
    assert {name: files[name] for name in FILES} == _bytes(folder)

    def pulled(**options: Any) -> PolicyInfo:
        return Policy.from_pretrained("me/pushed", model=model, **options).info

    hub.fetched.clear()
    cache = tmp_path / "cache"
    assert pulled(cache_dir=cache) == pulled(cache_dir=cache) == policy.info
    assert sorted(hub.fetched) == FILES, "the cache had it the second time"
    assert pulled(cache_dir=cache, local_files_only=True) == policy.info
    _ask_at("http://127.0.0.1:9", monkeypatch)
    assert pulled(cache_dir=cache) == policy.info
    assert "the Hub is not reached" in caplog.text
    with pytest.raises(DownloadError, match="did not give or take me/pushed"):
        pulled(cache_dir=tmp_path / "other")


def test_a_pull_that_is_killed_in_the_middle_of_a_file_is_pulled_again(
    stored: str, hub: HubStandIn, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    hub.sticks = "model.safetensors"
    code = "import sys; from sol_core.policy.files.locate import fetch_policy as fetch; "
    code += "fetch(sys.argv[1], cache_dir=sys.argv[2])"
    variables = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    with subprocess.Popen([sys.executable, "-c", code, stored, cache], env=variables) as child:
        assert hub.stuck.wait(60)
        child.kill()
    assert child.returncode == -9
    hub.sticks = ""
    found = fetch_policy(stored, cache_dir=cache)
    assert {name: (found / name).read_bytes() for name in FILES} == hub.repositories[stored]


@pytest.mark.parametrize(
    ("repository", "error", "words"),
    [
        ("me/nothing", DownloadError, "did not give or take me/nothing"),
        ("nonsense", DownloadError, "OWNER/NAME"),
        ("me/empty", PolicyError, r"holds no config\.json: it is no policy"),
        ("me/tiny", PolicyError, "too large"),
    ],
)
def test_what_the_hub_cannot_give(
    model: LanguageModel,
    hub: HubStandIn,
    stored: str,
    tmp_path: Path,
    repository: str,
    error: type[Exception],
    words: str,
) -> None:
    hub.repositories["me/empty"] = {"README.md": b"x"}
    hub.sizes["model.safetensors"] = 10**9
    with pytest.raises(error, match=words):
        Policy.from_pretrained(repository, model=model, cache_dir=tmp_path / "cache")
    assert not hub.fetched


def test_a_policy_is_found_by_every_name(
    folder: Path, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_policy_that_is_nowhere_is_named_with_what_there_is(folder: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(folder, data_dir / "policies" / "mine")
    with pytest.raises(
        PolicyError, match=r"no policy 'other': give 'default', a stored one \(mine"
    ):
        locate_policy("other", data_dir)
    with pytest.raises(PolicyError, match="name is empty"):
        locate_policy(" ", data_dir)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match=r"holds no policy: it has no config\.json"):
        locate_policy(tmp_path / "empty", data_dir)
    with pytest.raises(PolicyError, match="no policy '~nobody/x/y'"):
        locate_policy("~nobody/x/y", data_dir)
