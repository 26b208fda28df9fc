"""The app on a ZeroGPU Space: every use of the model is a decorated call, over real HTTP.

``spaces_stand_in.py`` has the contract: forked processes, pickled values, lost globals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.lessons.texts import BEGINNINGS
from tests.app.http_page import HttpPage
from tests.app.page_calls import ANNA, BEN
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

ROOT = Path(__file__).parents[3]


class Space:
    """A server process, and what its stand-in saw."""

    def __init__(self, folder: Path, **variables: str) -> None:
        environment = os.environ | {
            "SPACE_ID": "someone/sol",
            "SPACES_ZERO_GPU": "true",
            "SOL_LIMITS": "gpu_seconds=10,concurrent=2,jobs=1",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.space_server", str(folder)],
            cwd=ROOT,
            env=environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        about = self._answer()
        self.url, self.pid = about["url"], about["pid"]

    def ask(self, do: str, **more: Any) -> list[dict[str, Any]]:
        """The calls so far, after the stand-in was told something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        return list(self._answer())

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("space")
    save_tiny_policy(make_language_model(), folder / "policies" / "tiny")
    made = Space(folder)
    yield made
    made.close()


@pytest.fixture
def anna(space: Space) -> Iterator[HttpPage]:
    space.ask("reuse", on=False)
    space.ask("forget")
    with HttpPage(space.url, ANNA) as page:
        yield page


@pytest.fixture
def ben(space: Space) -> Iterator[HttpPage]:
    with HttpPage(space.url, BEN) as page:
        yield page


def names(space: Space) -> list[str]:
    return [call["name"] for call in space.ask("calls")]


def test_every_use_of_the_model_is_a_call_of_its_own_process(space: Space, anna: HttpPage) -> None:
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


def test_a_process_that_is_used_again_knows_what_it_needs(space: Space, anna: HttpPage) -> None:
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


def test_a_stop_reaches_the_call_and_gives_the_gpu_back(space: Space, anna: HttpPage) -> None:
    run_id = anna.start("slow words", max_new_tokens=500)
    anna.wait(run_id, until=lambda view: len(view.get("rows", [])) > 1)
    began = time.monotonic()
    anna.call("explore", "stop_run", run_id=run_id)
    view = anna.wait(run_id)
    assert (view["status"], view["summary"]["reason"]) == ("stopped", "stopped")
    assert time.monotonic() - began < 4  # its time would end later
    (call,) = space.ask("calls")
    assert call["ended"]


def test_a_run_that_takes_too_long_ends_in_time_and_says_so(space: Space, anna: HttpPage) -> None:
    view = anna.wait(anna.start("slow words", max_new_tokens=500))
    assert (view["status"], view["summary"]["reason"]) == ("finished", "time_limit")
    assert 3 < len(view["rows"]) < 200
    assert space.ask("calls")[0]["ended"]


def test_a_call_that_is_killed_is_said_in_words_and_keeps_its_tokens(anna: HttpPage) -> None:
    view = anna.wait(anna.start("stuck", max_new_tokens=50))
    assert view["status"] == "failed"
    assert "GPU task aborted" in view["error"]
    assert "ask for fewer tokens" in view["error"]
    assert len(view["rows"]) == 3
    assert anna.wait(anna.start("On we go"))["status"] == "finished"


def test_no_gpu_is_said_with_what_to_do(space: Space, anna: HttpPage) -> None:
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


def test_what_the_engine_refuses_arrives_in_its_words(anna: HttpPage) -> None:
    view = anna.wait(anna.start("too long " * 200))
    assert view["status"] == "failed"
    assert "the context of tiny holds 1024; shorten it" in view["error"]


def test_the_visitors_quota_is_used(space: Space, anna: HttpPage) -> None:
    with_ticket = {"zero_gpu_headers": {"x-ip-token": "annas"}}
    settings = {"max_new_tokens": 2, "chat": False}
    asked = anna.call("explore", "start_run", prompt="Mine", settings=settings, **with_ticket)
    anna.wait(asked["run_id"])
    look = {"run_id": asked["run_id"], "index": 0}
    anna.call("explore", "look_at_token", **look, **with_ticket)
    anna.call("explore", "look_at_token", **look)
    assert [call["ticket"] for call in space.ask("calls")] == ["annas", "annas", None]


def test_two_runs_have_a_gpu_each_where_the_owner_allows_it(anna: HttpPage, ben: HttpPage) -> None:
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


def test_jobs_are_refused_with_the_reason(anna: HttpPage) -> None:
    home = anna.call("lab", "lab_home", kind="train")
    assert not home["jobs_allowed"]
    assert "lends a GPU to single calls of at most 10 s" in home["refusal"]
