"""An open lens as a file, over the real engine with a tiny model."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import AppError, DocumentError
from app.explore.handlers import HANDLERS as EXPLORE
from app.inspect.handlers import HANDLERS as INSPECT
from app.page_calls import server_functions
from app.paths import DataDir
from app.services import Services, build_services, engine_generate
from app.sharing import export, import_document, kind_of
from app.sharing.handlers import EXPORT_HANDLERS
from tests.app.waiting import wait_until
from tests.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")
ANNA = "a" * 32
PROMPT = "The </script> keeper ${7*7}"
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    model = dataclasses.replace(make_language_model(), name="tiny")
    made = build_services(data_dir, "tiny", lambda report: model, engine_generate(data_dir))
    yield made
    made.close()


@pytest.fixture
def call(services: Services) -> Call:
    handlers = {
        **{name: EXPLORE[name] for name in ("start_run", "look_at_token", "look_at_plane")},
        **EXPORT_HANDLERS,
        "start_inspection": INSPECT["start_inspection"],
        "look_at_inspected": INSPECT["look_at_token"],
    }
    functions = {
        name: function
        for name, function in zip(handlers, server_functions(services, handlers), strict=True)
    }

    def invoke(name: str, **request: Any) -> dict[str, Any]:
        answer = functions[name]([{"owner": ANNA, **request}])
        return dict(json.loads(json.dumps(answer, allow_nan=False)))

    return invoke


@pytest.fixture
def run_id(call: Call, services: Services) -> str:
    asked = {"max_new_tokens": 8, "ignore_end_of_text": True, "chat": False, "schedule": "random"}
    return ended(services, call("start_run", prompt=PROMPT, settings=asked))


@pytest.fixture
def inspection_id(call: Call, services: Services) -> str:
    asked = {"schedules": ["static", "random", ""], "max_tokens": 200}
    return ended(services, call("start_inspection", text=PROMPT, settings=asked))


def ended(services: Services, answer: dict[str, Any]) -> str:
    made = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(made).status == "finished", 90)
    return made


def exported(call: Call, thing: str, form: str) -> str:
    answer = call("export_file", kind="lens", id=thing, form=form)
    assert "refused" not in answer, answer
    return str(answer["text"])


def test_json_is_the_look_in_full(call: Call, run_id: str) -> None:
    document = json.loads(exported(call, f"{run_id}:2::", "json"))
    assert (document["format"], document["version"]) == ("sol-explorer-lens", 1)
    lens = document["lens"]
    shown = call("look_at_token", run_id=run_id, index=2)
    assert (lens["run_id"], lens["run_kind"], lens["row"]) == (run_id, "generation", None)
    assert (lens["model"], lens["dtype"], lens["token"]["index"]) == ("tiny", "float32", 2)
    assert len(lens["rows"]) == 35
    assert [row["axis"] for row in lens["rows"][::12]] == [
        "keep_fraction",
        "channel_keep_ratio",
        "bit_width",
    ]
    flat = [row for axis in shown["axes"] for row in axis]
    for row, page in zip(lens["rows"], flat, strict=True):
        assert row["nll"] == pytest.approx(page["s"], rel=1e-4)
        assert row["kl"] == pytest.approx(page["kl"], rel=1e-4, abs=1e-6)
    assert lens["trails"][0]["name"] == "taken"
    assert len(lens["following"]) == len(lens["trails"][0]["kl"]) == 5
    assert lens["joint"] is None
    again = json.loads(exported(call, f"{run_id}:2::", "json"))
    assert again == document


def test_a_joint_grid_and_a_row_of_an_inspection(call: Call, inspection_id: str) -> None:
    lens = json.loads(exported(call, f"{inspection_id}:3:2:8", "json"))["lens"]
    assert (lens["run_kind"], lens["row"]) == ("inspection", 2)
    assert lens["joint"]["bit_width"] == 8
    assert len(lens["joint"]["rows"]) == 130
    rows = list(csv.DictReader(io.StringIO(exported(call, f"{inspection_id}:3:2:8", "csv"))))
    assert [row["axis"] for row in rows].count("joint") == 130
    assert len(rows) == 165
    assert sum(row["taken"] == "True" for row in rows if row["axis"] != "joint") == 3
    assert {row["probability"] for row in rows} == {""}


def test_the_page_holds_the_panel_and_runs_only_its_script(call: Call, run_id: str) -> None:
    page = exported(call, f"{run_id}:2::8", "html")
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="sol-data">')[0])
    held = re.search(r'id="sol-data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    view = json.loads(held[1])
    assert view["lens"] == call("look_at_token", run_id=run_id, index=2)
    assert view["plane"]["rows"] == call("look_at_plane", run_id=run_id, index=2, bits=8)["rows"]
    assert view["run"]["prompt"] == PROMPT
    assert len(page.encode()) < 300_000


def test_what_is_no_lens(call: Call, services: Services, run_id: str, inspection_id: str) -> None:
    for thing, said in (
        (run_id, "id is RUN:TOKEN:ROW:BITS"),
        (f"{run_id}:x::", "id is RUN:TOKEN:ROW:BITS"),
        (f"{run_id}:8::", "the run has tokens 0 to 7, got 8"),
        (f"{run_id}:2:1:", "is of the kind generation, not inspection"),
        (f"{inspection_id}:2::", "is of the kind inspection, not generation"),
        (f"{inspection_id}:2:9:", "rows 0 to 2, got 9"),
        (f"{run_id}:2::99", "bit_width must be between 2 and 16"),
        ("nobody:2::", "There is no run"),
    ):
        for form in ("json", "csv", "html"):
            assert said in call("export_file", kind="lens", id=thing, form=form)["refused"]
    with pytest.raises(AppError, match="A lens needs its model"):
        export(services.store, "lens", f"{run_id}:2::", "json")
    assert kind_of(services.store, f"{run_id}:2::") == "lens"


def test_a_lens_is_made_again_and_not_imported(call: Call, services: Services, run_id: str) -> None:
    data = exported(call, f"{run_id}:2::", "json").encode()
    with pytest.raises(DocumentError, match="made again from its run"):
        import_document(services.store, ANNA, data)
