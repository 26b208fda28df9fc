"""The queue of the lessons: one measurement for all who ask, and a bound on what waits."""

import threading

import pytest

from app.host.errors import AppError
from app.lessons import experiment_queue
from app.lessons.experiment_queue import QUOTA, Experiment, ExperimentQueue, check_wanted
from app.model.compute import ModelLoader
from app.runs.generation_runs import GenerationRuns
from sol_core.actions import GRIDS
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError
from storage import open_store
from tests.app.page_calls import ANNA
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load


class Measures:
    """Experiments that wait until they are let go, and count."""

    def __init__(self):
        self.go = threading.Event()
        self.calls = []

    def slow(self, model, text):
        self.calls.append(text)
        assert self.go.wait(20)
        return {"value": text, "by": model.name}

    def refused(self, model, text):
        self.calls.append(text)
        raise ConfigError("not like this")

    def broken(self, model, text):
        raise ZeroDivisionError("oh")


@pytest.fixture
def measures():
    return Measures()


@pytest.fixture
def runs(tmp_path):
    with open_store(tmp_path / "sol.sqlite3") as store:
        made = make_runs(store, FakeEngine(pause_at=1))
        yield made
        made.close()


def make_runs(store, engine):
    loader = ModelLoader("fake-model", fake_load)
    runs = GenerationRuns(store.runs, loader, engine)
    loader.start()
    wait_until(lambda: loader.loaded() is not None)
    runs.engine, runs.loader = engine, loader
    return runs


TEXTS = [f"text {number}" for number in range(130)]


@pytest.fixture
def queue(runs, measures):
    names = ("slow", "refused", "broken")
    taken = {name: Experiment(getattr(measures, name), TEXTS) for name in names}
    made = ExperimentQueue(runs, runs.loader, taken)
    yield made
    measures.go.set()
    made.close()


def done(queue, name, parameters):
    answers = []

    def has_ended():
        answers.append(queue.ask(ANNA, name, parameters))
        return bool(answers[-1]["state"] == "done")

    wait_until(has_ended)
    return dict(answers[-1]["result"])


def test_one_measurement_serves_all_who_ask_before_and_after(queue, measures):
    answers = [queue.ask(f"pupil {number}", "slow", {"text": "text 1"}) for number in range(30)]
    assert {answer["state"] for answer in answers} == {"waiting"}
    wait_until(lambda: len(measures.calls) == 1)
    answer = queue.ask(ANNA, "slow", {"text": "text 1"})
    assert (answer["state"], answer["before"]) == ("waiting", 0)
    assert answer["seconds"] >= 0
    measures.go.set()
    result = done(queue, "slow", {"text": "text 1"})
    assert (result["value"], result["by"], result["model"]) == (
        "text 1",
        "fake-model",
        "fake-model",
    )
    assert result["took_ms"] >= 0
    assert result["measured_at"]
    done(queue, "slow", {"text": "text 1"})["value"] = "changed"  # nobody else gets that
    assert done(queue, "slow", {"text": "text 1"}) == result
    assert len(measures.calls) == 1


def test_a_failure_is_told_to_all_who_wait_and_tried_again_later(queue, measures, monkeypatch):
    def reason(name):
        found = []

        def has_failed():
            try:
                queue.ask(ANNA, name, {"text": "text 1"})
            except AppError as error:
                found.append(str(error))
            return bool(found)

        wait_until(has_failed)
        return found[0]

    assert reason("refused") == "not like this"
    assert reason("refused") == "not like this"
    assert len(measures.calls) == 1
    assert reason("broken") == "The experiment failed: ZeroDivisionError: oh"
    monkeypatch.setattr(experiment_queue, "FAILURE_S", -1.0)
    assert queue.ask(ANNA, "refused", {"text": "text 1"})["state"] == "waiting"
    wait_until(lambda: len(measures.calls) == 2)


def test_an_experiment_waits_for_the_generation_before_it(queue, measures, runs):
    run_id = runs.start("a" * 32, "x", GenerationConfig(max_new_tokens=3, grid=GRIDS["default"]))
    wait_until(lambda: runs.poll("a" * 32, run_id, 0)["cursor"] == 1)
    queue.ask(ANNA, "slow", {"text": "text 1"})
    wait_until(
        lambda: (
            queue.ask(ANNA, "slow", {"text": "text 1"})
            == {"state": "waiting", "before": 1, "seconds": None}
        )
    )
    assert not measures.calls
    runs.engine.resume.set()
    measures.go.set()
    assert done(queue, "slow", {"text": "text 1"})["value"] == "text 1"


def test_before_the_model_is_there_the_answer_says_so(measures, runs):
    loader = ModelLoader("later", fake_load)
    queue = ExperimentQueue(runs, loader, {"slow": Experiment(measures.slow, TEXTS)})
    assert queue.ask(ANNA, "slow", {"text": "text 1"}) == {"state": "loading"}
    with pytest.raises(AppError, match="no experiment is called 'fast'"):
        queue.ask(ANNA, "fast", {})


def test_one_visitor_does_not_take_the_whole_queue(queue, measures):
    for number in range(QUOTA.of_visitor):
        queue.ask(ANNA, "slow", {"text": TEXTS[number]})
    with pytest.raises(AppError, match="You already have 6 experiments waiting"):
        queue.ask(ANNA, "slow", {"text": "text 99"})
    for pupil in range(30):
        asked = queue.ask(f"pupil {pupil}", "slow", {"text": TEXTS[100 + pupil]})
        assert asked["before"] == QUOTA.of_visitor + pupil
    measures.go.set()
    done(queue, "slow", {"text": "text 129"})
    assert measures.calls == [*TEXTS[:6], *TEXTS[100:]]


def test_a_measurement_that_nobody_asks_about_ends_at_its_next_step(runs, measures, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def steps(model, text):
        begun.set()
        assert go.wait(20)
        check_wanted()
        return {"value": text}

    queue = ExperimentQueue(runs, runs.loader, {"steps": Experiment(steps, TEXTS)})
    queue.ask(ANNA, "steps", {"text": "text 0"})
    assert begun.wait(20)
    monkeypatch.setattr(experiment_queue, "ABANDONED_S", -1.0)
    go.set()
    wait_until(lambda: not queue._waiting)
    assert not queue._ended
    monkeypatch.setattr(experiment_queue, "ABANDONED_S", 60.0)
    assert done(queue, "steps", {"text": "text 0"})["value"] == "text 0"
    queue.close()


def test_a_measurement_that_nobody_asks_about_any_more_is_dropped(queue, measures, monkeypatch):
    queue.ask(ANNA, "slow", {"text": "text 0"})
    wait_until(lambda: measures.calls == ["text 0"])
    queue.ask(ANNA, "slow", {"text": "text 1"})
    monkeypatch.setattr(experiment_queue, "ABANDONED_S", -1.0)  # left, but by whoever asks now
    assert queue.ask(ANNA, "slow", {"text": "text 2"})["before"] == 1
    monkeypatch.setattr(experiment_queue, "ABANDONED_S", 60.0)
    measures.go.set()
    done(queue, "slow", {"text": "text 2"})
    assert measures.calls == ["text 0", "text 2"]
    done(queue, "slow", {"text": "text 0"})  # what was being measured is kept
    assert measures.calls == ["text 0", "text 2"]
