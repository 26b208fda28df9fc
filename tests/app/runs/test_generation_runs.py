"""GenerationRuns: ownership, the queue, stopping, saving, expiry, on a stand-in engine."""

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.host.errors import AppError
from app.host.limits import Limits
from app.model import model_queue
from app.model.compute import ModelLoader
from app.model.model_queue import LESSONS, ModelQueue
from app.runs.generation_runs import GenerationRuns, RunNotFoundError
from app.runs.recorded_run import question_of, title_of_run
from sol_core.actions import GRIDS, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ModelLoadError
from storage import DatabaseWriteError, NotFoundError, open_store
from tests.app.page_calls import ANNA, BEN
from tests.app.waiting import wait_until
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, fake_load, make_token

TEN = GenerationConfig(
    schedule=ScheduleConfig("static", Budget(0.5, 0.7, 10.0)),
    side_rows=(SideRowConfig("dense", ScheduleConfig("dense")),),
    max_new_tokens=10,
    grid=GRIDS["default"],
)
LONG = GenerationConfig(max_new_tokens=4096, grid=GRIDS["default"])


class Bench:
    """The service on a fresh database, and what tests need around it."""

    def __init__(self, store, engine, **options):
        load = options.pop("load", fake_load)
        run_store = options.pop("run_store", store.runs)
        self.store = store
        self.engine = engine
        self.loader = ModelLoader("fake-model", load)
        self.runs = GenerationRuns(run_store, self.loader, engine, **options)
        self.loader.start()

    def status(self, run_id, owner=ANNA):
        return str(self.runs.poll(owner, run_id, 0)["status"])

    def wait_for(self, run_id, *statuses, owner=ANNA):
        wait_until(lambda: self.status(run_id, owner) in statuses)
        return self.runs.poll(owner, run_id, 0)

    def stop(self, run_id):
        self.runs.stop(ANNA, run_id)
        return self.wait_for(run_id, "stopped")

    def wait_until_saved(self, run_id):
        wait_until(lambda: self.store.runs.get(run_id).status != "running")


@pytest.fixture
def bench(store):
    made = []

    def make(engine=None, **options):
        made.append(Bench(store, engine or FakeEngine(), **options))
        return made[-1]

    yield make
    for one in made:
        one.runs.close()


def test_a_run_is_generated_polled_with_a_cursor_and_saved(store, bench):
    service = bench()
    run_id = service.runs.start(ANNA, "Tell me  a\nstory", TEN)
    view = service.wait_for(run_id, "finished")
    assert [row["index"] for row in view["rows"]] == list(range(10))
    assert (view["cursor"], view["more"]) == (10, False)
    assert view["run"]["prompt"] == "Tell me  a\nstory"
    assert view["run"]["title"] == store.runs.get(run_id).title == "Tell me a"
    later = service.runs.poll(ANNA, run_id, 7)
    assert [row["index"] for row in later["rows"]] == [7, 8, 9]
    assert "run" not in later
    service.wait_until_saved(run_id)
    record = service.store.runs.get(run_id)
    assert (record.status, record.num_tokens, record.schedule) == ("finished", 10, "static")
    assert view["rows"] == service.store.runs.events(run_id)  # the engine's records, in full
    assert view["summary"].items() <= (record.summary or {}).items()
    assert view["prefill"].items() <= (record.prefill or {}).items()


def test_a_run_that_waits_is_told_how_many_are_before_it_and_whose_turn_is_first(bench):
    engine = FakeEngine(pause_at=1)
    service = bench(engine)
    first = service.runs.start(ANNA, "first", TEN)
    wait_until(lambda: service.runs.poll(ANNA, first, 0)["cursor"] == 1)
    own, other = (service.runs.start(owner, "later", TEN) for owner in (ANNA, BEN))

    def told(owner, run_id):
        view = service.runs.poll(owner, run_id, 0)
        return view["position"], view["ahead"]

    assert told(ANNA, first) == (0, None)
    assert {told(ANNA, own), told(BEN, other)} == {(2, "own"), (1, "other")}
    engine.resume.set()
    for owner, run_id in ((ANNA, own), (BEN, other)):
        service.wait_for(run_id, "finished", owner=owner)
    with service.runs.model_queue.held(LESSONS):
        late = service.runs.start(ANNA, "late", TEN)
        assert told(ANNA, late) == (1, "lesson")
        service.stop(late)


def test_what_is_reopened_equals_what_was_shown_live(bench):
    service = bench(keep_ended_s=0.5)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    live = service.wait_for(run_id, "finished")
    service.wait_until_saved(run_id)
    wait_until(lambda: run_id not in service.runs._runs)
    stored = service.runs.poll(BEN, run_id, 0)
    assert stored == live


def test_only_the_owner_sees_a_run_before_it_has_ended(bench):
    service = bench(FakeEngine(step_s=0.01))
    run_id = service.runs.start(ANNA, "secret", LONG)
    service.wait_for(run_id, "running")
    with pytest.raises(RunNotFoundError):
        service.runs.poll(BEN, run_id, 0)
    with pytest.raises(RunNotFoundError):
        service.runs.stop(BEN, run_id)
    assert service.status(run_id) == "running"
    service.stop(run_id)
    assert service.runs.poll(BEN, run_id, 0)["status"] == "stopped"


def test_stop_during_prefill_and_while_waiting_for_the_model(bench):
    service = bench(FakeEngine(prefill_s=30.0))
    run_id = service.runs.start(ANNA, "prompt", TEN)
    service.wait_for(run_id, "prefill")
    assert service.stop(run_id)["rows"] == []

    gate = threading.Event()
    slow = bench(load=lambda _: gate.wait(30) and FAKE_MODEL)
    run_id = slow.runs.start(ANNA, "prompt", TEN)
    slow.wait_for(run_id, "loading")
    slow.stop(run_id)
    gate.set()


def test_a_queued_run_can_be_stopped_and_leaves_the_line(bench):
    service = bench(FakeEngine(step_s=0.005))
    first = service.runs.start(ANNA, "first", LONG)
    second = service.runs.start(BEN, "second", TEN)
    service.runs.stop(BEN, second)
    service.wait_for(second, "stopped", owner=BEN)
    service.wait_for(first, "running")
    service.stop(first)
    assert service.engine.calls == ["first"]


def test_an_error_is_shown_and_saved_with_the_tokens_before_it(bench):
    class Broken(FakeEngine):
        def __call__(self, model, prompt, config, should_stop):
            if prompt == "bad":
                raise ZeroDivisionError("oops")
            yield from super().__call__(model, prompt, config, should_stop)

    service = bench(Broken(error_at=4))
    run_id = service.runs.start(ANNA, "bad", TEN)
    assert "ZeroDivisionError: oops" in service.wait_for(run_id, "failed")["error"]
    run_id = service.runs.start(ANNA, "prompt", TEN)
    view = service.wait_for(run_id, "failed")
    assert (view["error"], len(view["rows"])) == ("The fake engine was told to fail", 4)
    service.wait_until_saved(run_id)
    record = service.store.runs.get(run_id)
    assert (record.status, record.num_tokens, record.error) == ("failed", 4, view["error"])


def test_a_model_that_cannot_be_loaded_fails_the_run_until_a_retry(bench):
    attempts = []

    def load(on_progress):
        attempts.append(1)
        if len(attempts) == 1:
            raise ModelLoadError("the weights are truncated: download them again")
        return FAKE_MODEL

    service = bench(load=load)
    run_id = service.runs.start(ANNA, "prompt", TEN)
    view = service.wait_for(run_id, "failed")
    assert view["error"] == "The weights are truncated: download them again"
    assert service.loader.status().state == "failed"
    service.loader.retry()
    service.wait_for(service.runs.start(ANNA, "prompt", TEN), "finished")
    assert service.loader.status().facts["context_length"] == 2048


class FailingStore:
    """A RunStore whose writes fail while ``broken`` is set, and wait for ``wait_for``."""

    def __init__(self, real):
        self.real = real
        self.broken = threading.Event()
        self.wait_for = None

    def __getattr__(self, name):
        def call(*args, **kwargs):
            if self.wait_for is not None:
                self.wait_for.wait(20)
            if self.broken.is_set():
                raise DatabaseWriteError("the disk is full")
            return getattr(self.real, name)(*args, **kwargs)

        return call


def test_a_full_disk_is_shown_and_the_rows_are_saved_once_there_is_room(store, bench):
    failing = FailingStore(store.runs)
    service = bench(FakeEngine(step_s=0.005), run_store=failing)
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    failing.broken.set()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is not None)
    view = service.runs.poll(ANNA, run_id, 0)
    assert (view["status"], "the disk is full" in view["warning"]) == ("running", True)
    before = view["cursor"]
    wait_until(lambda: service.runs.poll(ANNA, run_id, before)["rows"] != [])
    failing.broken.clear()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
    view = service.stop(run_id)
    service.wait_until_saved(run_id)
    saved = [event["index"] for event in store.runs.events(run_id)]
    assert saved == list(range(view["summary"]["num_tokens"]))


def test_a_run_that_was_started_while_the_database_was_locked_is_saved_later(tmp_path):
    """Another connection holds the lock for longer than a write waits for it."""
    path = tmp_path / "locked.sqlite3"
    with open_store(path, busy_timeout_s=0.2) as store, closing(sqlite3.connect(path)) as other:
        service = Bench(store, FakeEngine())
        other.execute("BEGIN IMMEDIATE")
        run_id = service.runs.start(ANNA, "prompt", TEN)
        view = service.wait_for(run_id, "finished")
        assert "will be tried again" in view["warning"]
        time.sleep(1.0)
        with pytest.raises(NotFoundError):
            store.runs.get(run_id)
        other.execute("COMMIT")
        wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
        assert store.runs.get(run_id).num_tokens == 10
        service.runs.close()


def test_what_is_shown_is_in_the_database_already(store, bench):
    """A process that is killed takes no token back that somebody has seen."""
    service = bench(FakeEngine(step_s=0.002))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    cursor = 0
    while cursor < 200:
        cursor = service.runs.poll(ANNA, run_id, cursor)["cursor"]
        assert store.runs.get(run_id).num_tokens >= cursor
    service.stop(run_id)
    assert store.runs.get(run_id).status == "stopped", "so is the ending"


def test_a_database_that_does_not_answer_holds_the_page_up_for_a_second_only(store, bench):
    stuck, release = FailingStore(store.runs), threading.Event()
    stuck.wait_for = release
    service = bench(FakeEngine(step_s=0.002), run_store=stuck)
    began = time.monotonic()
    run_id = service.runs.start(ANNA, "prompt", LONG)
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["rows"] != [])
    assert 0.5 < time.monotonic() - began < 3
    assert "Saving is late" in service.runs.poll(ANNA, run_id, 0)["warning"]
    release.set()
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["warning"] is None)
    service.stop(run_id)


def test_numbers_that_json_does_not_know_are_shown_and_saved_as_missing(bench):
    class Infinite(FakeEngine):
        def __call__(self, model, prompt, config, should_stop):
            yield replace(make_token(0, "x", config), kl_to_dense=float("inf"))
            yield replace(make_token(1, "y", config), surprisal=float("nan"))

    service = bench(Infinite())
    run_id = service.runs.start(ANNA, "prompt", TEN)
    rows = service.wait_for(run_id, "finished")["rows"]
    assert rows[0]["kl_to_dense"] is None
    assert rows[1]["surprisal"] is None
    service.wait_until_saved(run_id)
    assert service.store.runs.events(run_id)[0]["kl_to_dense"] is None


def test_long_runs_are_read_in_pages(bench):
    service = bench(keep_ended_s=0.0)
    run_id = service.runs.start(
        ANNA, "prompt", GenerationConfig(max_new_tokens=900, grid=GRIDS["default"])
    )
    service.wait_for(run_id, "finished")
    service.wait_until_saved(run_id)
    wait_until(lambda: not service.runs._runs)
    pages = [service.runs.poll(ANNA, run_id, 0)]
    while pages[-1]["more"]:
        pages.append(service.runs.poll(ANNA, run_id, pages[-1]["cursor"]))
    assert [row["index"] for page in pages for row in page["rows"]] == list(range(900))
    assert len(pages) == 3


def test_close_stops_runs_and_saves_what_there_is(store):
    service = Bench(store, FakeEngine(step_s=0.005))
    run_id = service.runs.start(ANNA, "prompt", LONG)
    service.wait_for(run_id, "running")
    wait_until(lambda: service.runs.poll(ANNA, run_id, 0)["cursor"] > 10)
    service.runs.close()
    record = store.runs.get(run_id)
    assert record.status == "stopped"
    assert record.num_tokens > 10


MANY = Limits(queue=1000, runs_per_visitor=100, runs_per_address=0)


class Line(ModelQueue):
    """A line in which places come from given addresses; the first one is served."""

    def __init__(self, monkeypatch, limits=MANY):
        super().__init__(limits)
        self.here = None
        monkeypatch.setattr(model_queue, "address", lambda: self.here)

    def come(self, owner, address):
        self.here = address
        return self.enter(owner)

    def end(self):
        """The run that is served ends."""
        (served,) = self._served
        self.leave(served)
        return served


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.booleans()), max_size=60)
)
def test_whoever_waits_has_as_many_turns_as_the_others_but_two(visits):
    with pytest.MonkeyPatch.context() as monkeypatch:
        line = Line(monkeypatch)
        turns = {}  # since a place was taken
        for owner, address, ends in visits:
            turns[line.come(owner, address)] = []
            if ends:
                line.end()
                for one in line._waiting:
                    turns[one].append(line._served[0])
            ahead = line._in_order()
            owners = [one.owner for one in ahead]
            assert [line.ahead(one) for one in ahead] == [owners[:at] for at in range(len(ahead))]
            for one in line._waiting:
                of_addresses = Counter(other.address for other in turns[one])
                of_owners = Counter(
                    other.owner for other in turns[one] if other.address == one.address
                )
                for had, own in ((of_addresses, one.address), (of_owners, one.owner)):
                    assert max(had.values(), default=0) <= had[own] + 2


def test_each_is_told_what_is_full(monkeypatch):
    line = Line(monkeypatch, Limits(queue=2, runs_per_visitor=1, runs_per_address=3))
    line.come("anna", "192.0.2.1")
    with pytest.raises(AppError, match="You already have 1 run"):
        line.come("anna", "192.0.2.9")
    line.come("carol", None)
    with pytest.raises(AppError, match="This server already has 2 runs"):
        line.come("dora", None)


def test_a_long_prompt_is_called_by_what_it_asks():
    archive = "The Harlow archive was opened in 1911. " * 30
    asked = [f"{archive}\n\nWhat is the {thing}?\n" for thing in ("password", "year")]
    titles = [title_of_run("generation", prompt, "The Harlow archive") for prompt in asked]
    assert titles == ["… What is the password?", "… What is the year?"]
    assert title_of_run("inspection", asked[0], "The Harlow archive") == "The Harlow archive"
    assert title_of_run("generation", "Who?\n\nAn owl.", "Who?") == "Who?"
    assert title_of_run("generation", "x" * 500).startswith("… xxx")
    assert question_of(asked[0]) == "… What is the password?"
    assert question_of(" Who?\n\nAn owl. ") == "Who?\n\nAn owl."
    assert title_of_run("generation", archive).startswith("… The Harlow archive was opened")
