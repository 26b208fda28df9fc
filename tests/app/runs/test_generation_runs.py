"""GenerationRuns: ownership, the queue, stopping, saving, expiry, on a stand-in engine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.host.errors import AppError
from app.host.limits import Limits
from app.model.loader import ModelLoader
from app.runs.queue import GenerationRuns, RunNotFoundError
from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError, ModelLoadError
from storage import DatabaseWriteError, NotFoundError, RunStore, Store, open_store
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, fake_load, make_token

ANNA, BEN = "a" * 32, "b" * 32
TEN = GenerationConfig(
    schedule=ScheduleConfig("static", Budget(0.5, 0.7, 10.0)),
    side_rows=(SideRowConfig("dense", ScheduleConfig("dense")),),
    max_new_tokens=10,
)
LONG = GenerationConfig(max_new_tokens=4096)


class Bench:
    """The service on a fresh database, and what tests need around it."""

    def __init__(self, store: Store, engine: FakeEngine, **options: Any) -> None:
        load = options.pop("load", fake_load)
        run_store = options.pop("run_store", store.runs)
        self.store = store
        self.engine = engine
        self.loader = ModelLoader("fake-model", load)
        self.runs = GenerationRuns(run_store, self.loader, engine, **options)
        self.loader.start()

    def status(self, run_id: str, owner: str = ANNA) -> str:
        return str(self.runs.poll(owner, run_id, 0)["status"])

    def wait_for(self, run_id: str, *statuses: str, owner: str = ANNA) -> dict[str, Any]:
        wait_until(lambda: self.status(run_id, owner) in statuses)
        return self.runs.poll(owner, run_id, 0)

    def wait_until_saved(self, run_id: str) -> None:
        wait_until(lambda: self.store.runs.get(run_id).status != "running")


def wait_until(is_true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "sol.sqlite3") as opened:
        yield opened


@pytest.fixture
def bench(store: Store) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(engine: FakeEngine | None = None, **options: Any) -> Bench:
        made.append(Bench(store, engine or FakeEngine(), **options))
        return made[-1]

    yield make
    for one in made:
        one.runs.close()


def test_a_run_is_generated_polled_with_a_cursor_and_saved(
    store: Store, bench: Callable[..., Bench]
) -> None:
    service = bench()
    run_id = service.runs.start(ANNA, "Tell me  a\nstory", TEN)
    view = service.wait_for(run_id, "finished")
    assert [row["index"] for row in view["rows"]] == list(range(10))
    assert view["cursor"] == 10
    assert not view["more"]
    assert view["run"]["prompt"] == "Tell me  a\nstory"
    assert view["run"]["title"] == store.runs.get(run_id).title == "Tell me a"
    assert view["summary"]["reason"] == "length"
    assert view["prefill"]["prompt_tokens"] == 4
    later = service.runs.poll(ANNA, run_id, 7)
    assert [row["index"] for row in later["rows"]] == [7, 8, 9]
    assert "run" not in later
    service.wait_until_saved(run_id)
    record = service.store.runs.get(run_id)
    assert (record.status, record.num_tokens, record.schedule) == ("finished", 10, "static")
    assert view["rows"] == service.store.runs.events(run_id)  # the engine's records, in full
    assert record.prefill is not None
    assert record.summary is not None
    without = {"prompt_text", "text"}  # which the page has already
    for name, event in (("prefill", record.prefill), ("summary", record.summary)):
        assert view[name] == {key: event[key] for key in event if key not in without}


def test_what_is_reopened_equals_what_was_shown_live(bench: Callable[..., Bench]) -> None:
    service = bench(keep_ended_s=0.5)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    live = service.wait_for(run_id, "finished")
    service.wait_until_saved(run_id)
    wait_until(lambda: run_id not in service.runs._runs)
    stored = service.runs.poll(BEN, run_id, 0)
    assert stored == live


def test_only_the_owner_sees_a_run_before_it_has_ended(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.01))
    run_id = service.runs.start(ANNA, "secret", LONG)
    service.wait_for(run_id, "running")
    with pytest.raises(RunNotFoundError):
        service.runs.poll(BEN, run_id, 0)
    with pytest.raises(RunNotFoundError):
        service.runs.stop(BEN, run_id)
    assert service.status(run_id) == "running"
    service.runs.stop(ANNA, run_id)
    service.wait_for(run_id, "stopped")
    assert service.runs.poll(BEN, run_id, 0)["status"] == "stopped"


def test_a_reload_finds_the_running_generation_again(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.01))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    assert service.runs.active(ANNA) == run_id
    assert service.runs.active(BEN) is None
    wait_until(lambda: len(service.runs.poll(ANNA, run_id, 0)["rows"]) > 5)
    service.runs.stop(ANNA, run_id)
    service.wait_for(run_id, "stopped")
    assert service.runs.active(ANNA) is None


def test_stop_takes_effect_within_one_token(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.05))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    before = service.runs.poll(ANNA, run_id, 0)["cursor"]
    service.runs.stop(ANNA, run_id)
    view = service.wait_for(run_id, "stopped")
    assert view["cursor"] <= before + 2
    assert view["summary"]["reason"] == "stopped"
    service.wait_until_saved(run_id)
    assert service.store.runs.get(run_id).status == "stopped"


def test_stop_during_prefill_and_while_waiting_for_the_model(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(prefill_s=30.0))
    run_id = service.runs.start(ANNA, "prompt", TEN)
    service.wait_for(run_id, "prefill")
    service.runs.stop(ANNA, run_id)
    assert service.wait_for(run_id, "stopped")["rows"] == []

    gate = threading.Event()
    slow = bench(load=lambda _: gate.wait(30) and FAKE_MODEL)
    run_id = slow.runs.start(ANNA, "prompt", TEN)
    slow.wait_for(run_id, "loading")
    slow.runs.stop(ANNA, run_id)
    slow.wait_for(run_id, "stopped")
    gate.set()


def test_runs_wait_in_line_and_each_sees_its_place(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.005))
    first = service.runs.start(ANNA, "first", LONG)
    service.wait_for(first, "running")
    second = service.runs.start(BEN, "second", TEN)
    third = service.runs.start(ANNA, "third", TEN)
    assert service.runs.poll(BEN, second, 0)["place"] == 1
    assert service.runs.poll(ANNA, third, 0)["place"] == 2
    assert service.status(second, BEN) == "queued"
    service.runs.stop(ANNA, first)
    service.wait_for(third, "finished")
    assert service.engine.calls == ["first", "second", "third"]
    assert service.runs.poll(ANNA, third, 0)["place"] is None


def test_a_queued_run_can_be_stopped_and_leaves_the_line(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.005))
    first = service.runs.start(ANNA, "first", LONG)
    second = service.runs.start(BEN, "second", TEN)
    service.runs.stop(BEN, second)
    service.wait_for(second, "stopped", owner=BEN)
    service.wait_for(first, "running")
    service.runs.stop(ANNA, first)
    service.wait_for(first, "stopped")
    assert service.engine.calls == ["first"]


def test_one_visitor_cannot_fill_the_line(bench: Callable[..., Bench]) -> None:
    service = bench(FakeEngine(step_s=0.01))
    mine = [service.runs.start(ANNA, "prompt", LONG) for _ in range(Limits().runs_per_visitor)]
    with pytest.raises(AppError, match="the most that are allowed"):
        service.runs.start(ANNA, "prompt", LONG)
    other = service.runs.start(BEN, "prompt", TEN)
    for run_id in mine:
        service.runs.stop(ANNA, run_id)
    service.wait_for(other, "finished", owner=BEN)


def test_an_empty_prompt_is_refused_before_anything_is_made(bench: Callable[..., Bench]) -> None:
    service = bench()
    with pytest.raises(ConfigError, match="prompt is empty"):
        service.runs.start(ANNA, " \n\t", TEN)
    assert service.store.runs.list() == []


def test_an_engine_error_is_shown_and_saved_with_the_tokens_before_it(
    bench: Callable[..., Bench],
) -> None:
    service = bench(FakeEngine(error_at=4))
    run_id = service.runs.start(ANNA, "prompt", TEN)
    view = service.wait_for(run_id, "failed")
    assert view["error"] == "the fake engine was told to fail"
    assert len(view["rows"]) == 4
    service.wait_until_saved(run_id)
    record = service.store.runs.get(run_id)
    assert (record.status, record.num_tokens) == ("failed", 4)
    assert record.error == "the fake engine was told to fail"


def test_an_unexpected_error_ends_the_run_and_frees_the_model(
    bench: Callable[..., Bench],
) -> None:
    class Broken(FakeEngine):
        def __call__(self, model: Any, prompt: str, config: Any, should_stop: Any) -> Any:
            if prompt == "bad":
                raise ZeroDivisionError("oops")
            return super().__call__(model, prompt, config, should_stop)

    service = bench(Broken())
    run_id = service.runs.start(ANNA, "bad", TEN)
    assert "ZeroDivisionError: oops" in service.wait_for(run_id, "failed")["error"]
    service.wait_for(service.runs.start(ANNA, "good", TEN), "finished")


def test_a_model_that_cannot_be_loaded_fails_the_run_until_a_retry(
    bench: Callable[..., Bench],
) -> None:
    attempts: list[int] = []

    def load(on_progress: Callable[[str, float], None]) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise ModelLoadError("the weights are truncated: download them again")
        return FAKE_MODEL

    service = bench(load=load)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    view = service.wait_for(run_id, "failed")
    assert view["error"] == "the weights are truncated: download them again"
    assert service.loader.status().state == "failed"
    service.loader.retry()
    service.wait_for(service.runs.start(ANNA, "prompt", TEN), "finished")
    assert service.loader.status().facts["context_length"] == 2048


class FailingStore:
    """A RunStore whose writes fail while ``broken`` is set, and wait for ``wait_for``."""

    def __init__(self, real: RunStore) -> None:
        self.real = real
        self.broken = threading.Event()
        self.wait_for: threading.Event | None = None

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.wait_for is not None:
                self.wait_for.wait(20)
            if self.broken.is_set():
                raise DatabaseWriteError("the disk is full")
            return getattr(self.real, name)(*args, **kwargs)

        return call


def test_a_full_disk_is_shown_and_the_rows_are_saved_once_there_is_room(
    store: Store, bench: Callable[..., Bench]
) -> None:
    failing = FailingStore(store.runs)
    service = bench(FakeEngine(step_s=0.005), run_store=failing)
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    failing.broken.set()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is not None)
    view = service.runs.poll(ANNA, run_id, 0)
    assert "the disk is full" in view["warning"]
    assert view["status"] == "running"
    before = view["cursor"]
    wait_until(lambda: service.runs.poll(ANNA, run_id, before)["rows"] != [])
    failing.broken.clear()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
    service.runs.stop(ANNA, run_id)
    view = service.wait_for(run_id, "stopped")
    service.wait_until_saved(run_id)
    saved = [event["index"] for event in store.runs.events(run_id)]
    assert saved == list(range(view["summary"]["num_tokens"]))


def test_a_run_that_cannot_be_created_still_generates_and_says_so(
    store: Store, bench: Callable[..., Bench]
) -> None:
    failing = FailingStore(store.runs)
    failing.broken.set()
    service = bench(run_store=failing)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    view = service.wait_for(run_id, "finished")
    assert len(view["rows"]) == 10
    assert "will be tried again: the disk is full" in view["warning"]


def test_a_run_that_was_started_while_the_database_was_locked_is_saved_later(
    tmp_path: Path,
) -> None:
    """Another connection holds the lock for longer than a write waits for it."""
    path = tmp_path / "locked.sqlite3"
    with open_store(path, busy_timeout_s=0.2) as store, closing(sqlite3.connect(path)) as other:
        service = Bench(store, FakeEngine())
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        run_id = service.runs.start(ANNA, "prompt", TEN)
        assert time.monotonic() - began < 2.0
        view = service.wait_for(run_id, "finished")
        assert len(view["rows"]) == 10
        assert "will be tried again" in view["warning"]
        time.sleep(1.0)
        with pytest.raises(NotFoundError):
            store.runs.get(run_id)
        other.execute("COMMIT")
        wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
        assert (store.runs.get(run_id).status, store.runs.get(run_id).num_tokens) == (
            "finished",
            10,
        )
        service.runs.close()


def test_what_is_shown_is_in_the_database_already(
    store: Store, bench: Callable[..., Bench]
) -> None:
    """A process that is killed takes no token back that somebody has seen."""
    service = bench(FakeEngine(step_s=0.002))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    cursor, num_looks, view = 0, 0, {"live": True}
    while cursor < 400:
        view = service.runs.poll(ANNA, run_id, cursor)
        cursor = view["cursor"]
        assert store.runs.get(run_id).num_tokens >= cursor
        num_looks += bool(view["rows"])
    assert num_looks > 20
    service.runs.stop(ANNA, run_id)
    service.wait_for(run_id, "stopped")
    assert store.runs.get(run_id).status == "stopped", "so is the ending"


def test_a_database_that_does_not_answer_holds_the_page_up_for_a_second_only(
    store: Store, bench: Callable[..., Bench]
) -> None:
    stuck, release = FailingStore(store.runs), threading.Event()
    stuck.wait_for = release
    service = bench(FakeEngine(step_s=0.002), run_store=stuck)
    run_id = service.runs.start(ANNA, "prompt", LONG)
    began = time.monotonic()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["rows"] != [])
    assert 0.5 < time.monotonic() - began < 3
    assert "Saving is late" in service.runs.poll(ANNA, run_id, 0)["warning"]
    release.set()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
    service.runs.stop(ANNA, run_id)
    service.wait_for(run_id, "stopped")


def test_rows_reach_the_database_within_a_second_while_the_engine_is_stuck(
    bench: Callable[..., Bench],
) -> None:
    release = threading.Event()

    class Stuck(FakeEngine):
        def __call__(self, model: Any, prompt: str, config: Any, should_stop: Any) -> Any:
            for event in super().__call__(model, prompt, config, should_stop):
                yield event
                if getattr(event, "index", None) == 4:
                    release.wait(20)

    service = bench(Stuck())
    run_id = service.runs.start(ANNA, "prompt", TEN)
    wait_until(lambda: len(service.runs.poll(ANNA, run_id, 0)["rows"]) == 5)
    time.sleep(1.0)
    assert service.store.runs.get(run_id).num_tokens == 5
    release.set()
    service.wait_for(run_id, "finished")


def test_numbers_that_json_does_not_know_are_shown_and_saved_as_missing(
    bench: Callable[..., Bench],
) -> None:
    class Infinite(FakeEngine):
        def __call__(self, model: Any, prompt: str, config: Any, should_stop: Any) -> Any:
            yield replace(make_token(0, "x", config), kl_to_dense=float("inf"))
            yield replace(make_token(1, "y", config), surprisal=float("nan"))

    service = bench(Infinite())
    run_id = service.runs.start(ANNA, "prompt", TEN)
    rows = service.wait_for(run_id, "finished")["rows"]
    assert rows[0]["kl_to_dense"] is None
    assert rows[1]["surprisal"] is None
    service.wait_until_saved(run_id)
    assert service.store.runs.events(run_id)[0]["kl_to_dense"] is None


def test_ended_runs_leave_memory_and_stay_readable(bench: Callable[..., Bench]) -> None:
    service = bench(keep_ended_s=0.2)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    service.wait_for(run_id, "finished")
    wait_until(lambda: not service.runs._runs)
    assert service.runs.poll(BEN, run_id, 0)["cursor"] == 10


def test_long_runs_are_read_in_pages(bench: Callable[..., Bench]) -> None:
    service = bench(keep_ended_s=0.0)
    run_id = service.runs.start(ANNA, "prompt", GenerationConfig(max_new_tokens=900))
    service.wait_for(run_id, "finished")
    service.wait_until_saved(run_id)
    wait_until(lambda: not service.runs._runs)
    cursor, seen, pages = 0, [], 0
    while True:
        view = service.runs.poll(ANNA, run_id, cursor)
        seen += [row["index"] for row in view["rows"]]
        cursor, pages = view["cursor"], pages + 1
        if not view["more"]:
            break
    assert seen == list(range(900))
    assert pages == 3


def test_close_stops_runs_and_saves_what_there_is(store: Store) -> None:
    service = Bench(store, FakeEngine(step_s=0.005))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["cursor"] > 10)
    service.runs.close()
    record = store.runs.get(run_id)
    assert record.status == "stopped"
    assert record.num_tokens > 10


def test_a_run_left_by_a_dead_process_is_shown_as_interrupted(
    store: Store, bench: Callable[..., Bench]
) -> None:
    record = store.runs.create(ANNA, "prompt", "fake-model", "static", TEN.to_dict())
    service = bench()
    with pytest.raises(RunNotFoundError):
        service.runs.poll(ANNA, record.id, 0)
    store.runs.mark_interrupted()
    assert service.runs.poll(BEN, record.id, 0)["status"] == "interrupted"


def test_unknown_runs_are_refused(bench: Callable[..., Bench]) -> None:
    service = bench()
    with pytest.raises(RunNotFoundError, match="does not exist"):
        service.runs.poll(ANNA, "nothing", 0)
    service.runs.stop(ANNA, "nothing")


def test_the_active_run_is_told_while_others_come_and_go(bench: Callable[..., Bench]) -> None:
    runs = bench(FakeEngine()).runs
    other = runs.start(BEN, "Other", TEN)
    ended = threading.Event()

    def churn() -> None:
        live = runs._runs[other]
        while not ended.is_set():
            for number in range(200):
                runs._runs[str(number)] = live
            for number in range(200):
                runs._runs.pop(str(number), None)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(3000):
            assert runs.active(ANNA) is None
    finally:
        ended.set()
        thread.join()
