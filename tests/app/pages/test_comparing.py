"""Two runs compared, over the real engine with a tiny model and a tiny policy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.host.paths import DataDir
from app.pages.explore.handlers import HANDLERS
from app.web.calls import server_functions
from app.web.services import Services, build_services, engine_generate
from sol_core.models.loading import LanguageModel
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
ANNA, BEN = "a" * 32, "b" * 32
Call = Callable[..., dict[str, Any]]
SETTINGS = {"chat": False, "max_new_tokens": 12, "ignore_end_of_text": True}


def caller(services: Services) -> Call:
    functions = {f.__name__: f for f in server_functions(services, HANDLERS)}

    def invoke(handler: str, owner: str = ANNA, **request: Any) -> dict[str, Any]:
        return dict(json.loads(json.dumps(functions[handler]([{"owner": owner, **request}]))))

    return invoke


def begin(folder: Path, model: LanguageModel) -> Services:
    data_dir = DataDir(folder)
    data_dir.prepare()
    services = build_services(data_dir, model.name, lambda report: model, engine_generate(data_dir))
    wait_until(lambda: services.loader.loaded() is not None)
    return services


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return dataclasses.replace(make_language_model(), name="tiny")


@pytest.fixture
def services(tmp_path: Path, model: LanguageModel) -> Iterator[Services]:
    save_tiny_policy(model, DataDir(tmp_path).policies / "tiny")
    made = begin(tmp_path, model)
    yield made
    made.close()


@pytest.fixture
def call(services: Services) -> Call:
    return caller(services)


def started(call: Call, services: Services, *settings: dict[str, Any]) -> list[str]:
    """Ids of runs of one prompt, all of them ended."""
    runs = [call("start_run", prompt="The keeper", settings=one)["run_id"] for one in settings]
    for run_id in runs:
        wait_until(lambda run_id=run_id: not services.runs.is_live(run_id))
    return runs


def test_a_pair_is_aligned_and_scored_by_the_dense_model(call: Call, services: Services) -> None:
    a = SETTINGS | {"schedule": "static", "keep": 100, "channels": 100, "bits": 16}
    b = SETTINGS | {"schedule": "static", "keep": 20, "channels": 45, "bits": 6}
    first, second = started(call, services, a, b)
    view = call("compare_runs", BEN, a=first, b=second)
    rows = [call("poll_run", run_id=run_id, cursor=0)["rows"] for run_id in (first, second)]
    for side, own in zip(view["sides"], rows, strict=True):
        shadow = [row["side"][0]["surprisal"] for row in own]  # a dense row with a cache of its own
        assert side["nll"] == pytest.approx(shadow, abs=1e-3)
        assert side["problem"] is None
    ids = [[row["token_id"] for row in own] for own in rows]
    parted = next((n for n, (x, y) in enumerate(zip(*ids, strict=True)) if x != y), None)
    assert view["same_prompt"]
    assert view["parted"] == parted
    assert view["stretches"][-1][2] == view["stretches"][-1][4] == 12

    same = call("compare_runs", a=first, b=first)
    assert (same["parted"], same["stretches"]) == (None, [[True, 0, 12, 0, 12]])


def test_runs_of_other_prompts_and_models_are_shown_without_alignment(
    call: Call, services: Services
) -> None:
    first, _ = started(call, services, SETTINGS, SETTINGS)
    other = services.store.runs.create(ANNA, "Another", "larger", "dense", {})
    services.store.runs.append_events(other.id, services.store.runs.events(first)[:2])
    services.store.runs.finish(other.id, "finished")
    view = call("compare_runs", a=first, b=other.id)
    assert (view["same_prompt"], view["parted"], view["stretches"]) == (False, None, None)
    assert view["sides"][0]["problem"] is None
    assert "larger made this run" in view["sides"][1]["problem"]
    empty = services.store.runs.create(ANNA, "The keeper", "tiny", "dense", {"chat": False})
    services.store.runs.finish(empty.id, "stopped")
    view = call("compare_runs", a=first, b=empty.id)
    assert (view["same_prompt"], view["parted"]) == (True, 0)
    assert view["sides"][1] == {"nll": None, "problem": "Nothing was generated."}
    assert "does not exist" in call("compare_runs", a=first, b="none")["refused"]


def test_a_run_that_goes_on_is_not_compared(tmp_path: Path) -> None:
    engine = FakeEngine(pause_at=1)
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, engine)
    call = caller(services)
    run_id = call("start_run", prompt="x", settings=SETTINGS)["run_id"]
    refused = call("compare_runs", a=run_id, b=run_id)["refused"]
    assert "Wait until the run has ended" in refused
    engine.resume.set()
    services.close()
