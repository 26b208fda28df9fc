"""The app on a ZeroGPU Space: every use of the model is a decorated call, over real HTTP."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.lessons.experiments import BEGINNINGS
from tests.app.http_page import HttpPage
from tests.app.page_calls import ANNA, BEN
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

ROOT = Path(__file__).parents[3]


class Space:
    """A server process, and what its stand-in saw."""

    def __init__(self, folder, **variables):
        environment = os.environ | {
            "SPACE_ID": "someone/sol",
            "SPACES_ZERO_GPU": "true",
            "SOL_LIMITS": "gpu_seconds=10,concurrent=2,jobs=1",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.space_server", str(folder)], cwd=ROOT,
            env=environment | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        about = self._answer()
        self.url, self.pid = about["url"], about["pid"]

    def ask(self, do, **more):
        """The calls so far, after the stand-in was told something."""
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        return list(self._answer())

    def _answer(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    save_tiny_policy(make_language_model(), folder / "policies" / "tiny")
    made = Space(folder)
    yield made
    made.close()


@pytest.fixture
def anna(space):
    space.ask("reuse", on=False)
    space.ask("forget")
    with HttpPage(space.url, ANNA) as page:
        yield page


@pytest.fixture
def ben(space):
    with HttpPage(space.url, BEN) as page:
        yield page


def names(space):
    return [call["name"] for call in space.ask("calls")]


def test_every_use_of_the_model_is_a_call_of_its_own_process(space, anna):
    run_id = anna.start("The keeper", schedule="policy:tiny", keep=50, channels=70, bits=8)
    view = anna.wait(run_id)
    assert (view["status"], view["summary"]["reason"]) == ("finished", "length")
    assert len(view["rows"]) == 6
    assert names(space) == ["_stream_here"]

    started = anna.call(
        "inspect", "start_inspection", text="Two ships went out.", settings={"max_tokens": 40}
    )
    inspected = anna.wait(started["run_id"], "inspect")
    assert inspected["status"] == "finished", inspected
    assert names(space) == ["_stream_here"] * 2

    look = anna.call("explore", "look_at_token", run_id=run_id, index=2)
    assert look["taken"]["action"] == view["rows"][2]["action"]
    row = anna.call("inspect", "look_at_token", run_id=started["run_id"], index=3, row=1)
    assert row["index"] == 3
    assert names(space)[2:] == ["_ask_here"] * 2

    pair = anna.call("explore", "compare_runs", a=run_id, b=run_id)
    assert pair["sides"][0]["nll"], pair
    parameters = {"text": next(iter(BEGINNINGS))}
    asked = {"experiment": "steps", "parameters": parameters}
    wait_until(lambda: anna.call("learn", "ask_experiment", **asked)["state"] == "done", 60)

    calls = space.ask("calls")
    assert len({call["pid"] for call in calls} | {space.pid}) == len(calls) + 1
    assert all(0 < call["duration"] <= 10 and call["ended"] for call in calls)


def test_a_process_that_is_used_again_knows_what_it_needs(space, anna):
    space.ask("reuse", on=True)
    first = anna.start("One", max_new_tokens=3)
    anna.wait(first)
    second = anna.start("Two other words", max_new_tokens=4)  # nothing the fork could know
    assert len(anna.wait(second)["rows"]) == 4
    for run_id in (second, first, second):
        assert anna.call("explore", "look_at_token", run_id=run_id, index=1)["index"] == 1
    pids = [call["pid"] for call in space.ask("calls")]
    assert pids[0] == pids[1]
    assert len(set(pids[2:])) == 1
    third = anna.start("slow and stopped", max_new_tokens=500)
    anna.wait(third, until=lambda view: len(view.get("rows", [])) > 1)
    anna.call("explore", "stop_run", run_id=third)
    assert anna.wait(third)["summary"]["reason"] == "stopped"
    fourth = anna.start("Four", max_new_tokens=3)
    assert anna.wait(fourth)["summary"]["reason"] == "length"


def test_a_stop_reaches_the_call_and_gives_the_gpu_back(space, anna):
    run_id = anna.start("slow words", max_new_tokens=500)
    anna.wait(run_id, until=lambda view: len(view.get("rows", [])) > 1)
    began = time.monotonic()
    anna.call("explore", "stop_run", run_id=run_id)
    view = anna.wait(run_id)
    assert (view["status"], view["summary"]["reason"]) == ("stopped", "stopped")
    assert time.monotonic() - began < 4  # its time would end later
    (call,) = space.ask("calls")
    assert call["ended"]


def test_a_run_that_takes_too_long_ends_in_time_and_says_so(space, anna):
    view = anna.wait(anna.start("slow words", max_new_tokens=500))
    assert (view["status"], view["summary"]["reason"]) == ("finished", "time_limit")
    assert 3 < len(view["rows"]) < 200
    assert space.ask("calls")[0]["ended"]


def test_a_call_that_is_killed_is_said_in_words_and_keeps_its_tokens(anna):
    view = anna.wait(anna.start("stuck", max_new_tokens=50))
    assert view["status"] == "failed"
    assert "GPU task aborted" in view["error"]
    assert "ask for fewer tokens" in view["error"]
    assert len(view["rows"]) == 3
    assert anna.wait(anna.start("On we go"))["status"] == "finished"


def test_no_gpu_is_said_with_what_to_do(space, anna):
    title, message = "ZeroGPU quota exceeded", "You have exceeded your free ZeroGPU quota (20s)."
    space.ask("refuse", title=title, message=message)
    view = anna.wait(anna.start("words"))
    assert view["status"] == "failed"
    assert message in view["error"]
    assert "Log in to Hugging Face" in view["error"]
    run_id = anna.start("words")
    anna.wait(run_id)
    space.ask("refuse", title="ZeroGPU queue timeout", message="No GPU was available after 60s")
    refused = anna.call("explore", "look_at_token", run_id=run_id, index=1)["refused"]
    assert "try again in a minute" in refused
    assert anna.call("explore", "look_at_token", run_id=run_id, index=1)["index"] == 1


def test_the_visitors_quota_is_used(space, anna):
    with_ticket = {"zero_gpu_headers": {"x-ip-token": "annas"}}
    settings = {"max_new_tokens": 2, "chat": False}
    asked = anna.call("explore", "start_run", prompt="Mine", settings=settings, **with_ticket)
    anna.wait(asked["run_id"])
    look = {"run_id": asked["run_id"], "index": 0}
    anna.call("explore", "look_at_token", **look, **with_ticket)
    anna.call("explore", "look_at_token", **look)
    assert [call["ticket"] for call in space.ask("calls")] == ["annas", "annas", None]


def test_two_runs_have_a_gpu_each_where_the_owner_allows_it(anna, ben):
    mine = anna.start("slow words", max_new_tokens=500)
    his = ben.start("slow words", max_new_tokens=500)
    third = anna.start("Third", max_new_tokens=2)
    ben.wait(his, until=lambda view: len(view.get("rows", [])) > 1)
    assert anna.poll(mine)["status"] == "running"
    assert anna.poll(third)["status"] == "queued"
    anna.call("explore", "stop_run", run_id=mine)
    assert anna.wait(third)["status"] == "finished"
    assert ben.poll(his)["status"] == "running"
    ben.call("explore", "stop_run", run_id=his)
    ben.wait(his)
