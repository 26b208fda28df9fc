"""The list of History: forks name their parents, and filters combine with the search."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.pages.history.handlers import HANDLERS
from app.web.calls import server_functions
from app.web.services import Services
from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from storage import RunKind, RunStatus
from tests.support.fake_engine import make_token

ANNA = "a" * 32
Call = Callable[..., dict[str, Any]]
CONFIGS = {
    "dense": GenerationConfig(schedule=ScheduleConfig("dense")),
    "static": GenerationConfig(schedule=ScheduleConfig("static", Budget(0.5, 0.7, 10.0))),
}


@pytest.fixture
def call(services: Services) -> Call:
    functions = {one.__name__: one for one in server_functions(services, HANDLERS)}

    def invoke(**request: Any) -> dict[str, Any]:
        asked = {"owner": ANNA, "query": "", "limit": 30, **request}
        answer = functions["list_runs"]([asked])
        return dict(json.loads(json.dumps(answer, allow_nan=False)))

    return invoke


def add(
    services: Services,
    prompt: str = "About the sea",
    schedule: str = "static",
    tokens: int = 4,
    *,
    kind: RunKind = "generation",
    status: RunStatus = "finished",
) -> str:
    config = CONFIGS.get(schedule, CONFIGS["static"])
    runs = services.store.runs
    run_id = runs.create(ANNA, prompt, "fake-model", schedule, config.to_dict(), kind).id
    rows = [event_to_dict(make_token(index, f" w{index}", config)) for index in range(tokens)]
    runs.append_events(run_id, rows)
    if status != "running":
        runs.finish(run_id, status, {"text": "Calm\n and blue"} if status == "finished" else None)
    return run_id


def titles(answer: dict[str, Any]) -> list[str]:
    return [row["title"] for row in answer["runs"]]


def test_a_fork_names_its_parent_and_the_token_in_which_it_parts(
    services: Services, call: Call
) -> None:
    parent = add(services)
    config = replace(CONFIGS["static"], given=(5, 6, 7)).to_dict()
    fork = services.store.runs.create(ANNA, "Go on", "m", "static", config, parent=parent).id
    services.store.runs.finish(fork, "finished")
    rows = {row["id"]: row["fork"] for row in call()["runs"]}
    assert rows == {parent: None, fork: {"parent": parent, "index": 2}}


def test_filters_combine_with_each_other_and_the_search(services: Services, call: Call) -> None:
    for prompt, schedule in (("Sea", "dense"), ("Sea", "static"), ("Hill", "static")):
        add(services, f"{prompt} {schedule}", schedule, 1)
    add(services, "Sea inspected", "dense, static", 1, kind="inspection")
    assert titles(call(kind="inspection")) == ["Sea inspected"]
    assert titles(call(kind="generation", schedule="static")) == ["Hill static", "Sea static"]
    assert titles(call(kind="generation", schedule="static", query="sea")) == ["Sea static"]
    assert titles(call(schedule="dense")) == ["Sea inspected", "Sea dense"]
    assert titles(call(schedule="random")) == []
    assert len(titles(call(kind=None, schedule=None))) == 4


def test_pages_of_a_filtered_list_go_on_where_they_were(services: Services, call: Call) -> None:
    for number in range(5):
        add(services, f"{number}", "dense" if number % 2 else "static", 1)
    first = call(schedule="static", limit=2)
    assert titles(first) == ["4", "2"]
    assert titles(call(schedule="static", limit=2, before=first["next"])) == ["0"]


@pytest.mark.parametrize("asked", [{"kind": "dream"}, {"schedule": "a, b"}, {"kind": ["run"]}])
def test_other_filters_are_refused(call: Call, asked: dict[str, Any]) -> None:
    assert "must be one of" in call(**asked)["refused"]
