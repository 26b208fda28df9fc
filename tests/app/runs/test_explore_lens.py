"""What a page may ask of the lens and of two runs, over the real engine with a tiny model."""

import threading

import pytest

from app.host.errors import AppError
from app.host.paths import DataDir
from app.pages.explore import HANDLERS
from app.runs import generation_runs
from app.web.services import build_services
from sol_core.actions import GRIDS
from tests.app.page_calls import ANNA, BEN, caller, engine_services
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {"max_new_tokens": 6, "ignore_end_of_text": True, "chat": False}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    yield from engine_services(tmp_path_factory.mktemp("data"), make_language_model())


@pytest.fixture
def call(services):
    return caller(services, HANDLERS)


def finish(call, services, **settings):
    answer = call("start_run", prompt="The keeper", settings=SETTINGS | settings)
    run_id = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(run_id).status == "finished")
    return run_id


@pytest.mark.parametrize("is_kept", [True, False], ids=["in memory", "from the database"])
def test_a_look_is_of_the_run_as_it_was(call, services, is_kept):
    run_id = finish(call, services)
    if not is_kept:
        services.runs.forget(run_id)
    rows = call("poll_run", run_id=run_id, cursor=0)["rows"]
    view = call("look_at_token", BEN, run_id=run_id, index=2)
    assert view["index"] == 2
    action = rows[2]["action"]
    assert view["taken"]["action"] == action
    assert view["taken"]["nll"] == pytest.approx(rows[2]["surprisal"], abs=1e-3)
    assert [len(axis) for axis in view["axes"]] == [
        len(levels) for levels in GRIDS["default"].levels()
    ]
    assert view["dense"]["kl"] == 0
    assert [len(trail["kl"]) for trail in view["trails"]] == [3] * 4


def test_pages_of_a_run_are_left_out_of_a_step_and_of_a_run(call, services):
    answer = call("start_run", prompt="The keeper " * 6, settings=SETTINGS)
    run_id = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(run_id).status == "finished")
    one = call("leave_out_pages", run_id=run_id, index=2, pages=[3])
    ranked = call("rank_pages", run_id=run_id, index=2)
    assert ranked["count"] == len(ranked["effects"]) == len(ranked["attention"])
    assert ranked["effects"][3]["kl"] == pytest.approx(one["kl"], abs=1e-4)
    again = call("run_without", run_id=run_id, pages=[3, 1])["run_id"]
    wait_until(lambda: services.store.runs.get(again).status == "finished")
    record = services.store.runs.get(again)
    assert (record.config["left_out"], record.parent) == ([1, 3], run_id)
    assert call("look_at_token", run_id=again, index=2)["replayed"]["nll"] == pytest.approx(
        call("poll_run", run_id=again, cursor=0)["rows"][2]["surprisal"], abs=1e-3
    )
    for pages, words in ((["x"], "whole numbers"), ([99], "pages 0 to"), ({}, "must be list")):
        assert words in call("leave_out_pages", run_id=run_id, index=2, pages=pages)["refused"]
    assert "can be left out" in call("run_without", run_id=run_id, pages=[99])["refused"]


def test_what_is_not_there_is_refused(call, services):
    run_id = finish(call, services)
    assert "tokens 0 to 5" in call("look_at_token", run_id=run_id, index=6)["refused"]
    assert "does not exist" in call("look_at_token", run_id="none", index=0)["refused"]
    for request in ({"index": 0}, {"run_id": run_id, "index": True}, {"run_id": 3, "index": 0}):
        assert "Reload the page" in call("look_at_token", **request)["refused"]


def ask(services, owner, question):
    with services.runs.model_queue.held(owner) as ticket:
        return services.runs.ask(ticket, question)


def test_a_run_that_goes_on_is_refused_and_another_ones_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(generation_runs, "QUESTION_PATIENCE_S", 0.05)
    engine = FakeEngine(pause_at=2)
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, engine)
    call = caller(services, HANDLERS)
    run_id = call("start_run", prompt="x", settings={"max_new_tokens": 4})["run_id"]
    wait_until(lambda: call("poll_run", run_id=run_id, cursor=0)["cursor"] == 2)
    assert "has ended" in call("look_at_token", run_id=run_id, index=0)["refused"]
    assert "has ended" in call("compare_runs", a=run_id, b=run_id)["refused"]
    with pytest.raises(AppError, match="busy with a generation"):
        ask(services, BEN, lambda bench: None)
    monkeypatch.setattr(generation_runs, "QUESTION_PATIENCE_S", 30)
    threading.Timer(0.05, engine.resume.set).start()
    assert ask(services, BEN, lambda bench: bench.model.name) == "fake-model"
    # The line moves on a moment before the run says that it has ended.
    wait_until(lambda: not call("poll_run", run_id=run_id, cursor=0)["live"])
    services.close()


def test_a_question_that_fails_leaves_the_line(call, services):
    def fail(bench):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ask(services, ANNA, fail)
    finish(call, services)


def test_a_pair_is_aligned_and_scored_by_the_dense_model(call, services):
    first = finish(call, services, schedule="static", keep=100, channels=100, bits=16)
    second = finish(call, services, schedule="static", keep=20, channels=45, bits=6)
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
    assert view["stretches"][-1][2] == view["stretches"][-1][4] == 6

    same = call("compare_runs", a=first, b=first)
    assert (same["parted"], same["stretches"]) == (None, [[True, 0, 6, 0, 6]])


def test_runs_of_other_prompts_and_models_are_shown_without_alignment(call, services):
    first = finish(call, services)
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
