"""Policies in and out: zips that attack, folders that lie, the Hub, names, and what depends."""

import json
import os
import shutil
import time
import zipfile

import pytest

from app.host.errors import AppError, InputFileError, PolicyNotFoundError
from app.policies.library import ModelInUse, PolicyLibrary
from app.policies.views import uses_of
from sol_core.errors import PolicyError
from sol_core.files.paths import SHIPPED_POLICY
from sol_core.policy.files.folder import policy_checksum
from sol_core.policy.info import MAX_BYTES
from storage import TASKS_JOB
from tests.app.command_line import one_line
from tests.support.hub_stand_in import ask_at, hub_stand_in
from tests.support.job_samples import evaluation_result, finished_job

MODEL = ModelInUse("smollm2-135m-instruct", "59bc67149cc45deb72540bafc014dfdc")
FILES = {name: (SHIPPED_POLICY / name).read_bytes() for name in MAX_BYTES}


@pytest.fixture
def library(data_dir):
    return PolicyLibrary(data_dir)


@pytest.fixture
def stored(library, data_dir):
    """A policy that was trained here."""
    shutil.copytree(SHIPPED_POLICY, data_dir.policies / "mine")
    return "mine"


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_zip(path, contents, change=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(entry)
            archive.writestr(entry, data)
    return path


def leftovers(data_dir):
    return sorted(path.name for path in data_dir.policies.iterdir())


def test_folders_and_zips_come_back_as_they_were(library, data_dir, stored, tmp_path):
    for target in (tmp_path / "out.zip", tmp_path / "out" / "folder"):
        library.export(stored, target)
        name = library.take_in(target, "copy of it", MODEL)
        copied = held(data_dir.policies / name)
        assert copied.pop("notes.json")
        assert copied == FILES
    assert library.names()[0] == "default"
    assert set(library.names()) == {"default", "mine", "copy of it", "copy of it-2"}
    policy = library.get("copy of it")
    assert policy.notes.former_names == ()  # one's own, so not exported
    assert policy.notes.added
    assert held(tmp_path / "out" / "folder") == FILES
    with pytest.raises(InputFileError, match="name a new zip, or a new or empty folder"):
        library.export(stored, tmp_path / "out")
    with pytest.raises(AppError, match=r"larger than 0\.01 MB"):
        library.zip_bytes(stored, 10_000)
    first = (tmp_path / "out.zip").read_bytes()
    library.export(stored, tmp_path / "out.zip")  # a zip is replaced
    assert (tmp_path / "out.zip").read_bytes() == first
    assert not any(name.startswith(".") for name in leftovers(data_dir))


def test_a_zip_may_hold_its_folder_and_other_files_which_are_not_read(library, data_dir, tmp_path):
    """As a Mac adds them, or with names that lead elsewhere, or pickles."""
    inside = {f"my policy/{name}": data for name, data in FILES.items()}
    names = ("__MACOSX/my policy/._config.json", ".DS_Store", "policy.pkl", "../../x", "a\\b", "/x")
    others = dict.fromkeys(names, b"\x80\x04.")
    made = write_zip(tmp_path / "a.zip", {"my policy/": b"", **inside, **others})
    assert library.take_in(made, "a", MODEL) == "a"
    assert held(data_dir.policies / "a").keys() == {*FILES, "notes.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "data"}


# --- what is refused ---------------------------------------------------------------------------

WEIGHTS = "model.safetensors"


def squeezes(entry):
    entry.compress_type = zipfile.ZIP_LZMA


ZIPS = [
    ({}, None, "lacks config.json"),
    ({"config.json": b"{}"}, None, "lacks model.safetensors"),
    ({**FILES, "../config.json": b"{}"}, None, "holds config.json twice"),
    ({**FILES, "x/README.md": b"x"}, None, "holds README.md twice"),
    (FILES, squeezes, "compressed in a way that is not read"),
    ({**FILES, "README.md": b"0" * 1_000_001}, None, "README.md has more than 1 MB"),
]


@pytest.mark.parametrize(("contents", "change", "said"), ZIPS, ids=[said for *_, said in ZIPS])
def test_zips_that_attack(library, data_dir, tmp_path, contents, change, said):
    made = write_zip(tmp_path / "a.zip", contents, change)
    with pytest.raises(PolicyError, match=said):
        library.take_in(made, "a", MODEL)
    assert leftovers(data_dir) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "data"}


def test_a_bomb_that_lies_about_its_size(library, data_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(MAX_BYTES, WEIGHTS, 50_000)
    made = write_zip(tmp_path / "a.zip", {"config.json": b"{}", WEIGHTS: bytes(10_000_000)})
    data = bytearray(made.read_bytes())
    lied = (10_000_000).to_bytes(4, "little")
    assert data.count(lied) == 2  # in the entry's head and in the directory
    made.write_bytes(bytes(data).replace(lied, (100).to_bytes(4, "little")))
    with pytest.raises(PolicyError, match=r"no zip, or is damaged|more than 0\.05 MB"):
        library.take_in(made, "a", MODEL)
    assert leftovers(data_dir) == []


def test_damaged_zips(library, tmp_path):
    made = write_zip(tmp_path / "a.zip", FILES)
    data = bytearray(made.read_bytes())
    data[2000:2400] = bytes(400)
    made.write_bytes(data)
    with pytest.raises(PolicyError, match=r"a\.zip is no zip, or is damaged"):
        library.take_in(made, "a", MODEL)
    for name, content in (("b.zip", b"no zip"), ("c.safetensors", FILES[WEIGHTS])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputFileError, match="is no policy's folder and no zip"):
            library.take_in(tmp_path / name, "a", MODEL)
    with pytest.raises(InputFileError, match="does not exist"):
        library.take_in(tmp_path / "nothing", "a", MODEL)


def config(**changes):
    """The shipped policy's files with a changed config.json."""
    record = json.loads(FILES["config.json"])
    for path, value in changes.items():
        place, *way = record, *path.split("__")
        for step in way[:-1]:
            place = place[step]
        place[way[-1]] = value
    record["weights_sha256"] = policy_checksum(FILES[WEIGHTS], record)
    return FILES | {"config.json": json.dumps(record).encode()}


FOLDERS = [
    (FILES | {"config.json": b"{"}, "config.json cannot be read"),
    (config(grid__quant_site="elsewhere"), "quant_site must be one of mlp_output, mlp_input"),
    (config(grid__keep_fractions=[0.5, 1.0]), "does not fit its config.json"),
    (config(layout__hidden_size=10**9), "hidden_size must be a whole number from 1 to 1,000,000"),
    (config(episode_steps=1e300), "episode_steps must be a whole number from 1 to 4,096"),
    (config(num_parameters=float("inf")), "num_parameters must be a whole number"),
    (config(summary__kl=10**30), "summary.kl must be plain JSON with finite numbers"),
    (FILES | {WEIGHTS: FILES[WEIGHTS][:-1000]}, "missing, truncated or damaged"),
    (FILES | {WEIGHTS: b"\x80\x04\x95" + bytes(3_000_000)}, "missing, truncated or damaged"),
    ({name: data for name, data in FILES.items() if name != WEIGHTS}, "holds no model.safet"),
]


@pytest.mark.parametrize(("contents", "said"), FOLDERS, ids=[said for _, said in FOLDERS])
def test_folders_that_lie(library, data_dir, tmp_path, contents, said):
    (tmp_path / "p").mkdir()
    for name, data in contents.items():
        (tmp_path / "p" / name).write_bytes(data)
    with pytest.raises(PolicyError, match=said):
        library.take_in(tmp_path / "p", "p", MODEL)
    assert leftovers(data_dir) == []


def test_only_the_files_of_a_policy_are_copied(library, data_dir, tmp_path):
    shutil.copytree(SHIPPED_POLICY, tmp_path / "p")
    (tmp_path / "p" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    library.take_in(tmp_path / "p", "p", MODEL)
    assert held(data_dir.policies / "p").keys() == {*FILES, "notes.json"}
    (tmp_path / "p" / "config.json").unlink()
    (tmp_path / "p" / "config.json").symlink_to(SHIPPED_POLICY / "config.json")
    with pytest.raises(PolicyError, match=r"holds no config\.json"):
        library.take_in(tmp_path / "p", "p", MODEL)


def test_a_former_name_still_finds_it(library, data_dir, stored):
    library.rename(stored, "better")
    library.rename("better", "best one")
    assert library.names() == ["default", "best one"]
    for name in ("mine", "better", "best one"):
        assert library.resolve(name) == library.resolve_name(name) == data_dir.policies / "best one"
    policy = library.get("better")
    assert policy.all_names == ("best one", "better", "mine")
    shutil.copytree(SHIPPED_POLICY, data_dir.policies / "mine")
    assert library.resolve("mine") == data_dir.policies / "mine"  # a name in use comes first
    library.rename("best one", "better")
    assert [one.name for one in library.get("better").notes.former_names] == ["best one", "mine"]
    # What is changed is named by its name of today.
    with pytest.raises(PolicyNotFoundError):
        library.delete("best one")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "is taken"),
        ("Default", "is taken"),
        ("../up", "is no policy's name"),
        (".hidden", "is no policy's name"),
        ("x" * 61, "is no policy's name"),
    ],
)
def test_names_that_cannot_be(library, data_dir, stored, name, said):
    shutil.copytree(SHIPPED_POLICY, data_dir.policies / "other")
    with pytest.raises(AppError, match=said):
        library.rename(stored, name)
    assert set(library.names()) == {"default", "mine", "other"}


def evaluation(store, *policies):
    params = {"policies": list(policies)}
    return finished_job(store, "evaluate", params, evaluation_result(policies))


def test_what_names_a_policy(library, data_dir, store, stored):
    training = finished_job(store, "train", {}, {"policy": "mine"})
    done = evaluation(store, "default", "mine")
    evaluation(store, "other")
    finished_job(store, TASKS_JOB, {"policy": "mine"}, {})
    schedule = {"kind": "policy", "policy": "mine"}
    store.runs.create("o", '"policy":"mine"', "m", "policy", {"schedule": schedule})
    store.runs.create("o", "x", "m", "static", {"side_rows": [{"name": "x", "schedule": schedule}]})
    store.runs.create("o", '"policy":"mine"', "m", "static", {"stop_strings": ['"policy":"mine"']})
    library.rename("mine", "yours")
    uses = uses_of(store, library, library.get("yours"))
    assert uses.training.id == training
    assert [job.id for job in uses.evaluations] == [done]
    assert uses.num_runs == 2
    assert uses.sentence() == "2 saved runs, 1 evaluation, 1 accuracy measurement"
    # A job that waits will look the name up when it starts; a former one still finds the policy.
    waiting = store.jobs.create("evaluate", "o", "t", {"policies": ["mine"]})
    uses = uses_of(store, library, library.get("yours"))
    assert [job.id for job in uses.waiting] == [waiting.id]
    # Another one takes the name: from now on the name means that one.
    shutil.copytree(SHIPPED_POLICY, data_dir.policies / "mine")
    later = evaluation(store, "mine")
    uses = uses_of(store, library, library.get("yours"))
    assert [job.id for job in uses.evaluations] == [done]
    assert uses.waiting == []
    found = uses_of(store, library, library.get("mine"))
    assert [job.id for job in found.waiting] == [waiting.id]
    assert later in [job.id for job in found.evaluations]


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with hub_stand_in() as stand_in:
        ask_at(stand_in.url, monkeypatch)
        yield stand_in


def test_a_policy_goes_to_the_hub_and_comes_back(
    library, data_dir, hub, stored, caplog, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    caplog.set_level("DEBUG")
    address = library.push(stored, "me/mine", private=True)
    assert address == f"{hub.url}/me/mine"
    assert hub.repositories["me/mine"] == FILES  # the notes stay here
    name = library.pull("me/mine", "pulled", MODEL)
    assert held(data_dir.policies / name).keys() == {*FILES, "notes.json"}
    assert (data_dir.policies / name / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.tokens == {"hf_secret"}
    assert "hf_secret" not in caplog.text
    kept = b"".join(path.read_bytes() for path in data_dir.root.rglob("*") if path.is_file())
    assert b"hf_secret" not in kept
    assert not any(path.startswith(".") for path in leftovers(data_dir))


def test_what_is_pulled_is_checked(library, hub):
    hub.repositories["me/a"] = {"config.json": b"{}", "policy.pkl": b"\x80\x04."}
    with pytest.raises(PolicyError, match=r"holds no model\.safetensors"):
        library.pull("me/a", "a", MODEL)
    hub.repositories["me/a"] = {**FILES, "evil.pkl": b"\x80\x04."}
    hub.sizes[WEIGHTS] = 200_000_001
    with pytest.raises(PolicyError, match="too large for a policy"):
        library.pull("me/a", "a", MODEL)
    assert WEIGHTS not in hub.fetched
    hub.sizes.clear()
    with pytest.raises(PolicyError, match="not for other"):
        library.pull("me/a", "a", ModelInUse("other", "0" * 32))
    assert library.pull("me/a", "a", MODEL) == "a"
    assert "evil.pkl" not in hub.fetched


@pytest.fixture
def _default_model(monkeypatch):
    monkeypatch.setattr(
        "sol_core.models.loading.model_fingerprint",
        lambda name, **_: MODEL.fingerprint if name == MODEL.name else "0" * 32,
    )


@pytest.mark.usefixtures("_default_model")
def test_the_whole_way_on_the_command_line(run, store, tmp_path):
    out = tmp_path / "p.zip"
    assert run("policies", "export", "default", str(out)).out == f"wrote default to {out}\n"
    done = run("policies", "import", str(out))
    assert done.out == "took in p: for smollm2-135m-instruct, 39,414 parameters\n"
    made = json.loads(run("policies", "import", str(out), "--name", "q", "--json").out)
    assert (made["name"], made["quant_site"]) == ("q", "mlp_output")
    assert run("policies", "rename", "q", "r").out == "q is now r\n"
    evaluation(store, "r")
    shown = json.loads(run("policies", "show", "q", "--json").out)
    assert shown["name"] == "r"
    assert shown["former_names"] == ["q"]
    found = "Policy r is closer to the full model than static at "
    assert shown["evaluations"][0]["verdict"]["head"].startswith(found)
    assert shown["measured"]["kl_static"] == pytest.approx(0.277, abs=1e-3)
    assert found in run("policies", "show", "r").out
    listed = json.loads(run("policies", "list", "--json").out)["policies"]
    assert {one["name"] for one in listed} == {"default", "p", "r"}
    job = store.jobs.create("evaluate", "o", "t", {"policies": ["r"]})
    assert f"({job.id}): cancel them, or give --force" in one_line(run("policies", "delete", "r"))
    done = run("policies", "delete", "r", "--force")
    assert done.out == ("deleted r; what named it: 1 evaluation, 1 job that has not ended\n")
    assert json.loads(run("policies", "delete", "p", "--json").out)["deleted"] == "p"
    assert "cannot be deleted" in one_line(run("policies", "delete", "default"))
    assert "no policy 'r'" in one_line(run("policies", "show", "r"))
    refused = one_line(run("policies", "import", str(out), "--model", "other"))
    assert "not for other (00000000)" in refused
    assert run("policies", "import", str(out), "--any-model").status == 0
    assert "OWNER/NAME" in one_line(run("policies", "push", "default", "mine"))


def test_what_a_killed_pull_left_goes_after_a_day(library, tmp_path):
    folder = library.folder
    left = {hours: folder / f".incoming-{hours}" for hours in (1, 25)}
    for hours, path in left.items():
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"half")
        then = time.time() - hours * 3600
        os.utime(path, (then, then))
    with pytest.raises(PolicyError):
        library.take_in(tmp_path, "a", None)
    assert [hours for hours, path in left.items() if path.exists()] == [1]
