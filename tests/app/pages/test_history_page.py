"""The list of History: previews are made once, and filters combine with the search."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from app.host.paths import DataDir
from app.pages.history.handlers import HANDLERS
from app.runs import preview
from app.web.calls import server_functions
from app.web.services import Services
from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from storage import DatabaseLockedError, RunKind, RunStatus
from tests.support.fake_engine import make_token
from tests.support.inspection_samples import save_inspection

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


def watch_reads(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs whose tokens are read from here on."""
    read: list[str] = []
    events = services.store.runs.events

    def watched(run_id: str) -> list[dict[str, Any]]:
        read.append(run_id)
        return events(run_id)

    monkeypatch.setattr(services.store.runs, "events", watched)
    return read


def test_a_list_reads_the_tokens_of_a_run_once(
    services: Services, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, cheap = add(services, schedule="dense"), add(services, tokens=240)
    add(services, status="running")
    read = watch_reads(services, monkeypatch)
    _, second, first = call()["runs"]
    assert read == [cheap, dense]
    assert first["preview"] == {"words": "Calm and blue", "share": 100, "cells": [100] * 4}
    assert len(second["preview"]["cells"]) == 120
    assert len(set(second["preview"]["cells"])) > 3
    changed = services.store.runs.get(dense).updated_at
    assert [row["preview"] for row in call()["runs"]] == [
        None,
        second["preview"],
        first["preview"],
    ]
    assert read == [cheap, dense]
    assert services.store.runs.get(dense).updated_at == changed


def test_a_run_without_an_end_shows_the_words_of_its_tokens(services: Services, call: Call) -> None:
    add(services, status="interrupted")
    assert call()["runs"][0]["preview"]["words"] == "w0 w1 w2 w3"


def test_a_fork_names_its_parent_and_the_token_in_which_it_parts(
    services: Services, call: Call
) -> None:
    parent = add(services)
    config = replace(CONFIGS["static"], given=(5, 6, 7)).to_dict()
    fork = services.store.runs.create(ANNA, "Go on", "m", "static", config, parent=parent).id
    services.store.runs.finish(fork, "finished")
    rows = {row["id"]: row["fork"] for row in call()["runs"]}
    assert rows == {parent: None, fork: {"parent": parent, "index": 2}}


def test_runs_without_tokens_have_none(services: Services, call: Call) -> None:
    add(services, kind="inspection", tokens=0)
    add(services, tokens=0)
    assert [row["preview"] for row in call()["runs"]] == [None, None]


def test_an_inspection_has_the_strip_of_its_last_schedule(services: Services, call: Call) -> None:
    tokens = ["The", " sea", " was", " calm"]
    run_id = save_inspection(services.store, tokens)
    (row,) = call()["runs"]
    read, whole = (
        [event["rows"][at]["cost"] for event in services.store.runs.events(run_id)]
        for at in (-1, 0)
    )
    shares = [
        round(100 * sum(v for k, v in one.items() if k.endswith("_bytes"))
              / sum(v for k, v in all_.items() if k.endswith("_bytes")))
        for one, all_ in zip(read, whole, strict=True)
    ]  # fmt: skip
    assert row["strip_label"] == "Uncertainty (EMC)"
    assert row["preview"]["words"] == ""
    assert row["preview"]["cells"] == shares
    assert len(set(shares)) > 1
    assert min(shares) <= row["preview"]["share"] <= max(shares) < 100


def test_a_long_list_of_old_runs_answers_in_time_and_goes_on_later(
    services: Services, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "PATIENCE_S", 0.0)
    for _ in range(3):
        add(services)
    made = [sum(row["preview"] is not None for row in call()["runs"]) for _ in range(4)]
    assert made == [1, 2, 3, 3]


def test_damaged_tokens_leave_the_run_in_the_list_and_are_read_once(
    services: Services, call: Call, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add(services)
    with closing(sqlite3.connect(data_dir.database)) as database:
        database.execute("UPDATE events SET record = ? WHERE idx = 2", (b"{",))
        database.commit()
    read = watch_reads(services, monkeypatch)
    for _ in range(2):
        (row,) = call()["runs"]
        assert row["preview"] == {"words": "", "share": None, "cells": []}
        assert row["status"] == "finished"
    assert read == [run_id]


def test_a_busy_database_costs_the_preview_only_for_now(
    services: Services, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(services)

    def busy(*_: object) -> None:
        raise DatabaseLockedError("busy")

    for name, is_shown in (("events", False), ("keep_preview", True)):
        with monkeypatch.context() as trouble:
            trouble.setattr(services.store.runs, name, busy)
            assert (call()["runs"][0]["preview"] is not None) is is_shown
    assert services.store.runs.list()[0].preview is None
    assert call()["runs"][0]["preview"]["share"] < 100


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
