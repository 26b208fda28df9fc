"""Calls that no page of ours makes, each of which once ended in an HTTP 500."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.fake_server import FakeServer, serving
from tests.app.http_page import HttpPage

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TOO_LARGE = "must be at most 9,007,199,254,740,991"
HALF = "\ud800"  # of a character
ANNA = "a" * 32


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with serving(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: FakeServer) -> HttpPage:
    return server.visitor(ANNA)


JOBS = {"kind": None, "group": "all", "limit": 10}
LOOK = {"run_id": "x", "index": 0}


@pytest.mark.parametrize(
    ("tab", "name", "request_", "said"),
    [
        ("explore", "look_at_token", LOOK | {"index": 10**30}, TOO_LARGE),
        ("explore", "look_at_plane", LOOK | {"index": -(2**63) - 1, "bits": 8}, TOO_LARGE),
        ("explore", "poll_run", {"run_id": "x", "cursor": 2**63}, TOO_LARGE),
        ("history", "begin_import", {"size": 10**400}, TOO_LARGE),
        ("lab", "begin_upload", {"name": "a.txt", "size": 10**400}, TOO_LARGE),
        ("lab", "list_jobs", JOBS | {"before": HALF}, "no job '\N{REPLACEMENT CHARACTER}'"),
        ("history", "list_runs", {"query": "", "limit": 5, "before": HALF}, "no run"),
        ("explore", "poll_run", {"run_id": HALF, "cursor": 0}, "does not exist"),
        ("explore", "start_run", {"prompt": "x", "settings": {HALF: 1}}, "unknown field"),
        ("lab", "list_jobs", JOBS | {"kind": ["train"]}, "kind must be one of"),
        ("lab", "list_jobs", JOBS | {"kind": {}}, "kind must be one of"),
        ("learn", "ask_experiment", {"experiment": "x", "parameters": {"a": nested(40)}},
         "at most 32 deep"),
    ],
)  # fmt: skip
def test_it_is_refused_in_words(
    page: HttpPage, tab: str, name: str, request_: dict[str, Any], said: str
) -> None:
    assert said in page.call(tab, name, **request_)["refused"]


def test_32_deep_is_not_too_deep(page: HttpPage) -> None:
    answer = page.call("learn", "ask_experiment", experiment="x", parameters={"a": nested(29)})
    assert "deep" not in answer.get("refused", "")


def test_a_name_of_four_byte_letters_is_cut_to_what_a_file_may_have(page: HttpPage) -> None:
    name, data = "\U00020000" * 80 + ".txt", base64.b64encode(b"words").decode()
    about = {"name": name, "size": 5}
    upload_id = page.call("lab", "begin_upload", **about)["upload_id"]
    made = page.call("lab", "upload_piece", **about, upload_id=upload_id, offset=0, data=data)
    assert made["name"] == "\U00020000" * 34 + ".txt"
    assert made["name"] in [one["name"] for one in page.call("lab", "list_corpora")["files"]]


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ("\n".join(map(str, range(33))), "at most 32 stop strings, got 33"),
        ("x" * 401, "1 to 400 characters"),
    ],
)
def test_stop_strings_are_few_and_short(page: HttpPage, stop: str, said: str) -> None:
    answer = page.call("explore", "start_run", prompt="x", settings={"stop": stop})
    assert said in answer["refused"]


def test_as_many_stop_strings_as_are_allowed(page: HttpPage) -> None:
    stop = "\n".join(f"{number:0400}" for number in range(32))
    page.wait(page.start("x", stop=stop))
