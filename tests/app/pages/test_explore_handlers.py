"""What the pages may ask of Python: good values, bad values, other people's runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.host.paths import DataDir
from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import (
    DEFAULT_FORM,
    MAX_PROMPT_CHARACTERS,
    config_from_form,
    form_from_config,
)
from app.pages.explore.handlers import HANDLERS as EXPLORE
from app.pages.explore.handlers import PAGE
from app.pages.history.handlers import HANDLERS as HISTORY
from app.web.calls import server_functions
from app.web.services import Services, build_services
from sol_core.actions import Budget
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, fake_load
from tests.support.tiny_policies import no_policy

ANNA, BEN = "a" * 32, "b" * 32
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    made = build_services(data_dir, "fake-model", fake_load, FakeEngine(step_s=0.002))
    yield made
    made.close()


@pytest.fixture
def call(services: Services) -> Call:
    return caller(services)


def caller(services: Services) -> Call:
    functions = {f.__name__: f for f in server_functions(services, {**EXPLORE, **HISTORY})}

    def invoke(name: str, owner: str = ANNA, **request: Any) -> dict[str, Any]:
        answer = functions[name]([{"owner": owner, **request}])
        return dict(json.loads(json.dumps(answer, allow_nan=False)))

    return invoke


def finish(call: Call, owner: str = ANNA, prompt: str = "prompt", **settings: Any) -> str:
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


def test_defaults_and_examples_are_valid() -> None:
    config = config_from_form(DEFAULT_FORM, no_policy)
    assert config.schedule.kind == "emc"
    assert config.schedule.budget == Budget(0.5, 0.75, 10)
    assert [row.name for row in config.side_rows] == ["dense"]
    for example in EXAMPLES:
        assert example["prompt"].strip()


@pytest.mark.parametrize("kind", ["dense", "static", "random", "emc", "dac"])
def test_settings_survive_the_way_to_the_engine_and_back(kind: str) -> None:
    settings = DEFAULT_FORM | {
        "schedule": kind,
        "keep": 37.5,
        "channels": 55,
        "bits": 6.5,
        "static_row": True,
        "stop": "END\n\\n\\n",
        "temperature": 0.7,
        "seed": 3,
    }
    config = config_from_form(settings, no_policy)
    assert config.stop_strings == ("END", "\n\n")
    back = form_from_config(config.to_dict())
    assert back is not None
    assert config_from_form(back, no_policy) == config
    assert form_from_config(json.loads(json.dumps(config.to_dict()))) == back


def test_a_configuration_of_another_release_is_not_offered_for_reuse() -> None:
    assert form_from_config({"from": "the future"}) is None
    assert form_from_config(GenerationConfig().to_dict() | {"new": 1}) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": 0}, r"Attention kept: 5 to 100 %, got 0\."),
        ({"keep": 4}, r"Attention kept: 5 to 100 %, got 4\."),
        ({"keep": 5, "grid": "paper"}, r"Attention kept: 10 to 100 %, got 5\."),
        ({"channels": 100.5}, r"MLP kept: 30 to 100 %, got 100\.5\."),
        ({"keep": None}, "keep must be a finite number"),
        ({"channels": float("nan")}, "channels must be a finite number"),
        ({"bits": 17}, r"Bits: 5 to 16 bit, got 17\."),
        ({"bits": 4}, r"Bits: 5 to 16 bit, got 4\."),
        ({"bits": True}, "bits must be a finite number"),
        ({"schedule": "best"}, "schedule.kind must be one of"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 to 4,096, got 0"),
        (
            {"max_new_tokens": 10**9},
            "max_new_tokens must be .* to 4,096, got 1000000000",
        ),
        ({"max_new_tokens": float("inf")}, "whole number"),
        ({"max_new_tokens": 2.5}, "whole number"),
        ({"temperature": -1}, "temperature must be a number from 0 to 100, got -1"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_k": "many"}, "top_k must be a whole number"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"quant_site": "everywhere"}, "quant_site must be one of"),
        ({"stop": 3}, "stop must be text"),
        ({"chat": "yes"}, "chat must be true or false"),
        ({"episode_steps": 0}, "episode_steps must be a whole number from 1 to 1,000,000, got 0"),
        ({"surprise": 1}, "the form has an unknown field 'surprise'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_from_form(settings, no_policy)


def test_a_dense_run_asks_for_no_budget() -> None:
    assert config_from_form({"schedule": "dense", "keep": 4, "bits": 99}, no_policy)


def test_a_refusal_comes_back_as_a_sentence(call: Call) -> None:
    refused = call("start_run", prompt="", settings={})
    assert "prompt is empty" in refused["refused"]
    refused = call("start_run", prompt="x", settings={"keep": 0})
    assert refused["refused"] == "Attention kept: 5 to 100 %, got 0."
    assert (
        "characters"
        in call("start_run", prompt="x" * (MAX_PROMPT_CHARACTERS + 1), settings={})["refused"]
    )


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("start_run", {"prompt": 3, "settings": {}}),
        ("start_run", {"prompt": "x"}),
        ("poll_run", {"run_id": "x", "cursor": "0"}),
        ("poll_run", {"run_id": ["x"], "cursor": 0}),
        ("poll_run", {"run_id": "x", "cursor": True}),
        ("list_runs", {"query": None, "limit": 10}),
        ("list_runs", {"query": "", "limit": 10, "before": 7}),
        ("delete_run", {}),
    ],
)
def test_malformed_calls_are_refused(call: Call, name: str, request_: dict[str, Any]) -> None:
    assert "Reload the page" in call(name, **request_)["refused"]


def test_a_call_needs_an_object_and_a_well_formed_owner(services: Services, call: Call) -> None:
    assert "32 hexadecimal" in call("home", owner="' or 1=1")["refused"]
    (home,) = server_functions(services, {"home": EXPLORE["home"]})
    for nonsense in ([], [[]], None, "x", 7, [None]):
        assert "refused" in home(nonsense)


def test_half_characters_do_not_break_the_answer(call: Call) -> None:
    run_id = finish(call, prompt="bad \ud800 half")
    view = call("poll_run", run_id=run_id, cursor=0)
    assert view["run"]["prompt"] == "bad \ufffd half"
    json.dumps(view, ensure_ascii=False).encode("utf-8")


def test_home_reports_the_model_and_the_running_generation(call: Call) -> None:
    started = call("start_run", prompt="long", settings={"max_new_tokens": 4000})
    assert call("home")["active"] == started["run_id"]
    assert call("home", BEN)["active"] is None
    call("stop_run", run_id=started["run_id"])
    model = call("home")["model"]
    assert (model["state"], model["facts"]["device"]) == ("ready", "cpu")


def test_the_first_poll_says_what_the_run_is_and_how_to_repeat_it(call: Call) -> None:
    run_id = finish(call, schedule="random", keep=40, seed=5)
    run = call("poll_run", BEN, run_id=run_id, cursor=0)["run"]
    assert run["settings"]["schedule"] == "random"
    assert run["settings"]["keep"] == 40
    assert run["settings"]["seed"] == 5
    assert "owner" not in run


def test_history_lists_searches_pages_and_deletes(call: Call) -> None:
    ids = [finish(call, prompt=f"number {index} \u00c9t\u00e9") for index in range(3)]
    first = call("list_runs", query="", limit=2)
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


def test_a_running_generation_cannot_be_deleted(call: Call) -> None:
    run_id = call("start_run", prompt="long", settings={"max_new_tokens": 4000})["run_id"]
    assert "still going on" in call("delete_run", run_id=run_id)["refused"]
    assert call("list_runs", BEN, query="", limit=10)["runs"] == []
    (row,) = call("list_runs", query="", limit=10)["runs"]
    assert (row["status"], row["can_delete"]) == ("running", False)
    call("stop_run", run_id=run_id)


def test_locally_all_runs_are_listed_on_a_space_only_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    run_id = finish(call)
    assert [run["id"] for run in call("list_runs", BEN, query="", limit=10)["runs"]] == [run_id]

    monkeypatch.setenv("SPACE_ID", "someone/something")
    shared = build_services(DataDir(tmp_path / "space"), "fake-model", fake_load, FakeEngine())
    on_space = caller(shared)
    run_id = finish(on_space)
    assert on_space("list_runs", BEN, query="", limit=10)["runs"] == []
    assert len(on_space("list_runs", query="", limit=10)["runs"]) == 1
    assert "Only the visitor" in on_space("delete_run", BEN, run_id=run_id)["refused"]
    assert "does not exist" in on_space("poll_run", BEN, run_id=run_id, cursor=0)["refused"]
    shared.close()


def test_a_restart_marks_unfinished_runs_and_keeps_the_rest(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path)
    first = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    done = finish(caller(first))
    first.store.runs.create(ANNA, "cut off", "fake-model", "static", {})
    first.close()
    second = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    runs = caller(second)("list_runs", query="", limit=10)["runs"]
    assert [run["status"] for run in runs] == ["interrupted", "finished"]
    assert caller(second)("poll_run", BEN, run_id=done, cursor=0)["cursor"] == 5
    second.close()


def test_the_mix_of_a_share_follows_the_prompts_length(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mix(share: float, characters: int) -> dict[str, Any]:
        settings = {"schedule": "static", "share": share, "max_new_tokens": 20}
        return call("estimate_budget", settings=settings, characters=characters)

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
    assert below["share"] == pytest.approx(below["lowest"])


def test_a_budget_per_axis_has_its_share_of_the_bytes(call: Call) -> None:
    def share(**settings: Any) -> float:
        return float(call("estimate_budget", settings=settings, characters=7000)["share"])

    axes = {"schedule": "static", "keep": 50, "channels": 75, "bits": 10}
    assert share(schedule="dense") == 1
    assert share(**axes | {"keep": 100, "channels": 100}) == pytest.approx(1)
    assert 0.5 < share(**axes) < 1
    assert share(**axes | {"keep": 20}) < share(**axes)
    assert share(**axes | {"channels": 40}) < share(**axes)
    assert share(**axes | {"bits": 5}) == share(**axes)  # activations are no bytes of the weights
    assert share(**axes | {"grid": "paper"}) != share(**axes | {"grid": "default"})
    refused = call("estimate_budget", settings=axes | {"keep": 3}, characters=0)["refused"]
    assert refused == "Attention kept: 5 to 100 %, got 3."


def test_the_page_knows_how_long_a_prompt_file_may_be(services: Services) -> None:
    assert PAGE.constants(services)["maxCharacters"] == services.limits.characters
