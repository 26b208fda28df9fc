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

from app.formats.csv_cells import plain_cell
from app.host.errors import AppError, DocumentError
from app.host.paths import DataDir
from app.pages.explore.handlers import HANDLERS as EXPLORE
from app.pages.inspect.handlers import HANDLERS as INSPECT
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.sharing import export, import_document, kind_of
from app.web.calls import server_functions
from app.web.services import Services, build_services, engine_generate
from storage import NotFoundError, open_store
from tests.app.waiting import wait_until
from tests.support.exported_page import data_of
from tests.support.tiny_language_model import make_language_model

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
    assert (document["format"], document["version"]) == ("sol-explorer-lens", 2)
    lens = document["lens"]
    shown = call("look_at_token", run_id=run_id, index=2)
    assert (lens["run_id"], lens["run_kind"], lens["row"]) == (run_id, "generation", None)
    assert (lens["model"], lens["dtype"], lens["token"]["index"]) == ("tiny", "float32", 2)
    assert len(lens["rows"]) == 38
    axes = ["keep_fraction"] * 11 + ["channel_keep_ratio"] * 15 + ["bit_width"] * 12
    assert [row["axis"] for row in lens["rows"]] == axes
    flat = [row for axis in shown["axes"] for row in axis]
    for row, page in zip(lens["rows"], flat, strict=True):
        assert row["nll"] == page["nll"]
        assert row["kl"] == page["kl"]
        assert row["choice"] == page["choice"]
        assert 0 < row["choice"]["probability"] <= 1
    assert lens["taken"]["choice"] == shown["taken"]["choice"]
    assert lens["trails"][0]["name"] == "taken"
    assert len(lens["following"]) == len(lens["trails"][0]["kl"]) == 5
    assert lens["joint"] is None
    again = json.loads(exported(call, f"{run_id}:2::", "json"))
    assert again == document


def test_a_joint_grid_and_a_row_of_an_inspection(call: Call, inspection_id: str) -> None:
    lens = json.loads(exported(call, f"{inspection_id}:3:2:8", "json"))["lens"]
    assert (lens["run_kind"], lens["row"]) == ("inspection", 2)
    assert lens["joint"]["bit_width"] == 8
    assert len(lens["joint"]["rows"]) == 165
    rows = list(csv.DictReader(io.StringIO(exported(call, f"{inspection_id}:3:2:8", "csv"))))
    assert [row["axis"] for row in rows].count("joint") == 165
    assert len(rows) == 38 + 165
    assert sum(row["taken"] == "True" for row in rows if row["axis"] != "joint") == 3
    assert {row["probability"] for row in rows} == {""}
    choices = [row["choice"] for row in lens["rows"] + lens["joint"]["rows"]]
    for row, choice in zip(rows, choices, strict=True):
        assert row["choice_text"] == plain_cell(choice["text"])
        assert float(row["choice_probability"]) == choice["probability"]


def test_a_look_of_before_choices_were_kept_is_imported_and_exported(
    call: Call, services: Services, run_id: str
) -> None:
    document = json.loads(exported(call, f"{run_id}:2::8", "json"))
    lens = document["lens"]
    lens["rows"][0]["choice"]["text"] = "=1+1"
    _, made = import_document(services.store, ANNA, json.dumps(document).encode())
    first, *_ = csv.DictReader(io.StringIO(exported(call, made, "csv")))
    assert first["choice_text"] == "'=1+1"
    for row in (lens["taken"], lens["dense"], *lens["rows"], *lens["joint"]["rows"]):
        del row["choice"]
    _, made = import_document(services.store, ANNA, json.dumps(document).encode())
    again = json.loads(exported(call, made, "json"))["lens"]
    assert again == lens | {"run_id": made.split(":")[0]}
    rows = list(csv.DictReader(io.StringIO(exported(call, made, "csv"))))
    assert {row["choice_text"] + row["choice_probability"] for row in rows} == {""}
    assert exported(call, made, "html")


def test_the_page_holds_the_panel_and_runs_only_its_script(call: Call, run_id: str) -> None:
    page = exported(call, f"{run_id}:2::8", "html")
    assert page.count("<script") == page.count("</script>") == 3
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="sol-data">')[0])
    view = data_of(page)
    assert view["lens"] | {"imported": None} == call("look_at_token", run_id=run_id, index=2)
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


@pytest.mark.parametrize("kind", ["generation", "inspection"])
def test_an_imported_lens_is_what_was_exported_whatever_model_is_here(
    call: Call, services: Services, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    run_id = request.getfixturevalue("run_id" if kind == "generation" else "inspection_id")
    rest = "2::8" if kind == "generation" else "2:1:8"
    look = "look_at_token" if kind == "generation" else "look_at_inspected"
    row = {} if kind == "generation" else {"row": 1}
    data = exported(call, f"{run_id}:{rest}", "json").encode()
    shown = call(look, run_id=run_id, index=2, **row)

    kind_made, made = import_document(services.store, "b" * 32, data)
    new_run = made.split(":")[0]
    assert (kind_made, made) == ("lens", f"{new_run}:{rest}")
    assert services.store.runs.get(new_run).owner == "b" * 32
    again = call(look, run_id=new_run, index=2, **row)
    about = {"model": "tiny", "dtype": "float32", "bits": [8]}
    assert again == shown | {"replayed": None, "imported": about}
    assert call(look, run_id=new_run, index=3, **row)["imported"] is None  # seen here
    # Another machine, without a model: every form of the file is there, the JSON to the digit.
    with open_store(tmp_path / "other.sqlite3") as other:
        _, elsewhere = import_document(other, ANNA, data)
        document = json.loads(export(other, "lens", elsewhere, "json").text)
        kept = json.loads(data)
        part = "run" if kind == "generation" else "inspection"
        for one in (document, kept):
            one["lens"].pop("run_id")
            one[part].pop("id")
        assert document == kept
        for form in ("csv", "html"):
            assert export(other, "lens", elsewhere, form).text
        with pytest.raises(AppError, match="holds that of 8 bits, not that of 5"):
            export(other, "lens", elsewhere.replace(":8", ":5"), "csv")
        other.runs.delete(elsewhere.split(":")[0])
        with pytest.raises(NotFoundError):
            export(other, "lens", elsewhere, "csv")


def test_an_imported_look_without_a_joint_grid_says_so(
    call: Call, services: Services, run_id: str
) -> None:
    data = exported(call, f"{run_id}:2::", "json").encode()
    _, made = import_document(services.store, ANNA, data)
    new_run = made.split(":")[0]
    assert call("look_at_token", run_id=new_run, index=2)["imported"]["bits"] == []
    assert (
        "holds no joint grid" in call("look_at_plane", run_id=new_run, index=2, bits=8)["refused"]
    )


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("lens", None, "lens must be an object"),
        ("lens.token", {"index": 0, "token_id": 1, "text": "x"}, "lens.token must be that of the"),
        ("lens.token.index", 8, "there are tokens 0 to 7"),
        ("lens.token.index", -1, "there are tokens 0 to 7"),
        ("lens.row", 0, "lens.row must be null for a generation"),
        ("lens.run_kind", "inspection", "inspection must be an object"),
        ("lens.config", {}, "lens.config must be that of run.config"),
        ("lens.rows", [], "every level of every axis"),
        ("lens.rows.0.level", 0.15, "every level of every axis"),
        ("lens.rows.0.choice", " sea", "lens.rows[0].choice must be"),
        ("lens.rows.0.choice.text", 1, "lens.rows[0].choice.text must be"),
        ("lens.joint.rows.3.choice.token_id", 0.5, "lens.joint.rows[3].choice.token_id must be"),
        ("lens.rows.0.kl", "1", "lens.rows[0].kl must be a finite number"),
        ("lens.taken.action.bit_width", 17, "lens.taken.action is not allowed"),
        ("lens.taken.action.keep_fraction", 0.9999, "lens.taken.action must be that of the run"),
        ("lens.trails", [], "lens.following must be that of the run"),
        ("lens.trails.1.name", "<img>", "lens.trails must be those of taken"),
        ("lens.trails.1.kl", [0.0], "as long as lens.following"),
        ("lens.following", [], "lens.following must be that of the run"),
        ("lens.policy", [[1.0]], "lens.policy must be that of the run"),
        ("lens.joint.bit_width", 3, "a level of the run's grid"),
        ("lens.joint.rows", [], "the grid's levels, attention first"),
        ("lens.more", 1, "lens has an unknown field 'more'"),
        ("run", None, "run must be an object"),
        ("events", [], "there are tokens 0 to -1"),
    ],
)
def test_a_lens_that_does_not_fit_its_run_is_refused_and_nothing_is_saved(
    call: Call, services: Services, run_id: str, place: str, value: Any, said: str
) -> None:
    document = json.loads(exported(call, f"{run_id}:2::8", "json"))
    *way, last = place.split(".")
    part: Any = document
    for step in way:
        part = part[int(step)] if step.isdigit() else part[step]
    part[last] = value
    with pytest.raises(DocumentError) as refused:
        import_document(services.store, ANNA, json.dumps(document).encode())
    assert said in str(refused.value)
    assert [run.id for run in services.store.runs.list()] == [run_id]
