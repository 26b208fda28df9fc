"""What the pages may ask of Python: good values, bad values, other people's runs."""

import time

import pytest

from app.host.paths import DataDir
from app.pages.explore import DEFAULT_FORM, config_from_form, form_from_config
from app.pages.explore import HANDLERS as EXPLORE
from app.pages.history import HANDLERS as HISTORY
from app.results.shipped import prompt_of, shipped_recording
from app.web.calls import server_functions
from app.web.services import build_services
from sol_core.actions import GRIDS
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError
from tests.app.page_calls import ANNA, BEN, caller
from tests.app.waiting import wait_until
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, fake_load
from tests.support.tiny_policies import no_policy


@pytest.fixture
def services(tmp_path):
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    made = build_services(data_dir, "fake-model", fake_load, FakeEngine(step_s=0.002))
    yield made
    made.close()


@pytest.fixture
def call(services):
    return caller(services, EXPLORE, HISTORY)


def finish(call, owner=ANNA, prompt="prompt", **settings):
    answer = call("start_run", owner, prompt=prompt, settings={"max_new_tokens": 5} | settings)
    run_id = str(answer["run_id"])
    deadline = time.monotonic() + 10
    while call("poll_run", owner, run_id=run_id, cursor=0)["live"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Ended runs reach the list once they are saved.
    while call("list_runs", owner, query="", limit=200)["runs"][0]["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run_id


def test_runs_of_the_opening_are_not_listed(call):
    made = shipped_recording("float32")
    one = made["questions"][0]
    own = finish(call, prompt=made["story"])
    demo = prompt_of(made["story"], one["question"], one["stem"])
    answer = call("start_run", prompt=demo, settings={"max_new_tokens": 1, "chat": False})
    while call("poll_run", run_id=answer["run_id"], cursor=0)["live"]:
        time.sleep(0.01)
    assert [run["id"] for run in call("list_runs", query="", limit=9)["runs"]] == [own]
    assert [run["id"] for run in call("saved_runs")["runs"]] == [own]


def test_too_long_a_prompt_is_refused_before_it_waits_in_line(call, services, monkeypatch):
    services.loader.wait(lambda: False)
    monkeypatch.setattr(FAKE_MODEL, "encode", lambda text, **_: [1] * 2048, raising=False)
    refused = call("start_run", prompt="long", settings={"chat": False})["refused"]
    assert refused == (
        "Too long: 2,048 tokens; this model holds 2,048. Shorten the text, or load a model with a "
        "longer context."
    )
    assert call("list_runs", query="", limit=9)["runs"] == []
    assert call("estimate_budget", settings={}, characters=4 * 2048) == {}


@pytest.mark.parametrize("kind", ["dense", "static", "random", "emc", "dac"])
def test_settings_survive_the_way_to_the_engine_and_back(kind):
    settings = DEFAULT_FORM | {"schedule": kind, "keep": 37.5, "channels": 55, "bits": 6.5}
    settings |= {"static_row": True, "stop": "END\n\\n\\n", "temperature": 0.7, "seed": 3}
    config = config_from_form(settings, no_policy)
    assert config.stop_strings == ("END", "\n\n")
    back = form_from_config(config.to_dict())
    assert config_from_form(back, no_policy) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": 4}, r"Attention kept: 5 to 100 %, got 4\."),
        ({"channels": float("nan")}, "channels must be a finite number"),
        ({"bits": 17}, r"Bits: 3 to 16 bit, got 17\."),
        ({"schedule": "best"}, "schedule.kind must be one of"),
        ({"schedule": "policy: "}, "Choose a policy"),
        ({"max_new_tokens": 10**9}, "max_new_tokens must be .* to 4,096, got 1000000000"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        config_from_form(settings, no_policy)


@pytest.mark.parametrize(
    ("name", "request_", "said"),
    [
        ("start_run", {"prompt": "", "settings": {}}, "prompt is empty"),
        ("start_run", {"prompt": "x", "settings": {"keep": 0}}, "Attention kept: 5 to 100 %, got"),
        ("start_run", {"prompt": "x" * 1_000_001, "settings": {}}, "characters"),
        ("start_run", {"prompt": "x"}, "Reload the page"),
        ("poll_run", {"run_id": ["x"], "cursor": 0}, "Reload the page"),
        ("poll_run", {"run_id": "x", "cursor": True}, "Reload the page"),
        ("list_runs", {"query": "", "limit": 10, "before": 7}, "Reload the page"),
        ("home", {"owner": "' or 1=1"}, "32 hexadecimal"),
    ],
)
def test_bad_calls_are_refused_in_a_sentence(call, name, request_, said):
    assert said in call(name, **request_)["refused"]


def test_a_call_needs_an_object(services):
    (home,) = server_functions(services, {"home": EXPLORE["home"]})
    for nonsense in ([], [[]], None, "x", 7, [None]):
        assert "refused" in home(nonsense)


def test_home_reports_the_model_and_the_running_generation(call):
    started = call("start_run", prompt="long", settings={"max_new_tokens": 4000})
    assert call("home")["active"] == started["run_id"]
    assert call("home", BEN)["active"] is None
    call("stop_run", run_id=started["run_id"])
    wait_until(lambda: call("home")["model"]["state"] == "ready")
    assert call("home")["model"]["facts"]["device"] == "cpu"


def test_history_lists_searches_pages_and_deletes(call):
    ids = [finish(call, prompt=f"number {index} \u00c9t\u00e9") for index in range(3)]
    first = call("list_runs", BEN, query="", limit=2)  # on one's own machine all are listed
    assert [run["id"] for run in first["runs"]] == ids[:0:-1]
    second = call("list_runs", query="", limit=2, before=first["next"])
    assert [run["id"] for run in second["runs"]] == ids[:1]
    assert second["next"] is None
    found = call("list_runs", query=" 1 \u00e9T\u00c9", limit=10)["runs"]
    assert [run["id"] for run in found] == [ids[1]]
    assert found[0]["schedule_label"] == "Uncertainty (EMC)"
    assert call("delete_run", run_id=ids[1]) == {}
    assert "no run" in call("delete_run", run_id=ids[1])["refused"]
    assert "does not exist" in call("poll_run", run_id=ids[1], cursor=0)["refused"]
    assert len(call("list_runs", query="", limit=10)["runs"]) == 2


def test_a_running_generation_cannot_be_deleted(call):
    run_id = call("start_run", prompt="long", settings={"max_new_tokens": 4000})["run_id"]
    assert "still going on" in call("delete_run", run_id=run_id)["refused"]
    assert call("list_runs", BEN, query="", limit=10)["runs"] == []
    (row,) = call("list_runs", query="", limit=10)["runs"]
    assert (row["status"], row["can_delete"]) == ("running", False)
    call("stop_run", run_id=run_id)


def test_a_restart_marks_unfinished_runs_and_keeps_the_rest(tmp_path):
    data_dir = DataDir(tmp_path)
    first = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    done = finish(caller(first, EXPLORE, HISTORY))
    first.store.runs.create(ANNA, "cut off", "fake-model", "static", {})
    first.close()
    second = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    call = caller(second, EXPLORE, HISTORY)
    runs = call("list_runs", query="", limit=10)["runs"]
    assert [run["status"] for run in runs] == ["interrupted", "finished"]
    assert call("poll_run", BEN, run_id=done, cursor=0)["cursor"] == 5
    second.close()


def test_the_mix_of_a_share_follows_the_prompts_length(call, monkeypatch):
    def mix(share, characters):
        settings = {"schedule": "static", "share": share, "max_new_tokens": 20}
        return call("estimate_budget", settings=settings, characters=characters)

    wait_until(lambda: mix(90, 200).get("context"))  # the model is there
    short, long = mix(90, 200), mix(90, 7800)
    assert (short["context"], long["context"]) == (61, 1961)
    assert short["share"] == pytest.approx(0.9, abs=0.005)
    assert short["mix"]["channels"] < long["mix"]["channels"]
    assert short["mix"]["keep"] > long["mix"]["keep"]
    assert long["lowest"] < short["lowest"] < 0.9
    assert 0.9 < short["usual"] <= 0.99
    assert short["measured_on"] == ""  # the stand-in has the default model's fingerprint
    monkeypatch.setattr(FAKE_MODEL, "fingerprint", "0" * 32)
    assert mix(90, 200)["measured_on"] == "smollm2-135m-instruct"
    below = mix(10, 200)  # what cannot be reached is the lowest
    assert below["share"] == pytest.approx(below["lowest"], abs=1e-3)  # mixes of a page share one
    assert call("estimate_budget", settings={"schedule": "dense"}, characters=7000)["share"] == 1
    refused = call("estimate_budget", settings={"schedule": "static", "keep": 3}, characters=0)
    assert refused["refused"] == "Attention kept: 5 to 100 %, got 3."


def test_a_variant_names_its_parent_and_says_what_it_changed(services, call):
    runs, made = services.store.runs, {}
    parent = runs.create(ANNA, "The sea", "m", "static", {}).id
    for change, words in (
        ({"given": (5, 6, 7)}, "Another token 3"),
        ({"left_out": (0, 4)}, "Without 2 lines"),
        ({}, "The full model's answer"),
    ):
        config = GenerationConfig(grid=GRIDS["default"], **change).to_dict()
        made[runs.create(ANNA, "The sea", "m", "static", config, parent=parent).id] = words
    rows = {row["id"]: row for row in call("list_runs", query="", limit=9)["runs"]}
    assert {run: rows[run]["variant"] for run in made} == made
    assert {rows[run]["parent"] for run in made} == {parent}
    assert (rows[parent]["parent"], rows[parent]["variant"]) == (None, "")


def test_the_full_models_answer_is_a_variant_of_a_run_that_one_may_see(services, call):
    parent = finish(call)
    asked = {"prompt": "The sea", "settings": {"schedule": "dense", "max_new_tokens": 1}}
    run_id = call("start_run", parent=parent, **asked)["run_id"]
    assert services.runs.poll(ANNA, run_id, 0)["run"]["parent"] == parent
    assert "does not exist" in call("start_run", parent="other", **asked)["refused"]
