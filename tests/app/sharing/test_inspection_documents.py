"""Inspections as files: what is exported comes back as it was, and nothing else gets in."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.formats.plain_json import json_safe
from app.host.errors import AppError, DocumentError
from app.sharing import export, import_document, kind_of, thing_in_link
from sol_core.actions import Action
from sol_core.config import ScheduleConfig
from sol_core.inspection.records import InspectionConfig
from storage import NotFoundError, Store
from tests.app.command_line import RunCommand, one_line
from tests.app.sharing.test_run_documents import (
    HOSTILE,
    Change,
    check_damage,
    contents,
    drop,
    put,
    save_run,
)
from tests.support.exported_page import data_of
from tests.support.inspection_samples import BUDGET, save_inspection


def as_json(store: Store, inspection_id: str) -> bytes:
    return export(store, "inspection", inspection_id, "json").text.encode("ascii")


def without_id(data: bytes) -> dict[str, Any]:
    document = dict(json.loads(data))
    del document["inspection"]["id"]
    return document


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(
    text=st.text(st.characters(), min_size=1, max_size=40),
    tokens=st.lists(st.text(st.characters(), max_size=8), max_size=5),
    kinds=st.lists(st.sampled_from(["static", "emc", "painted"]), max_size=3, unique=True),
)
def test_any_inspection_comes_back_as_it_was(
    store: Store, text: str, tokens: list[str], kinds: list[Any]
) -> None:
    painted = {"painted": (Action(0.5, 0.75, 10), Action())}
    schedules = (ScheduleConfig(kind, BUDGET, painted=painted.get(kind, ())) for kind in kinds)
    inspection_id = save_inspection(store, tokens, text, InspectionConfig(tuple(schedules)))
    made = as_json(store, inspection_id)
    kind, copied = import_document(store, "b" * 32, made)
    assert (kind, kind_of(store, copied)) == ("inspection", "inspection")
    assert copied != inspection_id
    assert contents(store, copied) == contents(store, inspection_id)
    assert without_id(as_json(store, copied)) == without_id(made)


def test_hostile_text_comes_back_and_no_form_runs_it(store: Store) -> None:
    inspection_id = save_inspection(store, HOSTILE, "".join(HOSTILE))
    _, copied = import_document(store, "b" * 32, as_json(store, inspection_id))
    assert contents(store, copied) == contents(store, inspection_id)
    page = export(store, "inspection", copied, "html").text
    assert page.count("<script") == page.count("</script>") == 3
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="sol-data">')[0])
    assert [row["text"] for row in data_of(page)["rows"][:4]] == list(HOSTILE[:4])


def test_an_inspection_that_ended_early_comes_back_too(store: Store) -> None:
    config = InspectionConfig((ScheduleConfig("static", BUDGET),))
    record = store.runs.create(
        "a" * 32, "t", "m", "dense, static", json_safe(config.to_dict()), "inspection"
    )
    with pytest.raises(AppError, match="still going on"):
        as_json(store, record.id)
    store.runs.finish(record.id, "failed", error="no <b>model</b>")
    _, copied = import_document(store, "b" * 32, as_json(store, record.id))
    assert contents(store, copied) == contents(store, record.id)
    for form in ("html", "csv"):
        assert export(store, "inspection", copied, form).text


def test_runs_and_inspections_are_told_apart(store: Store, run: RunCommand) -> None:
    made = {"run": save_run(store), "inspection": save_inspection(store, [" a"])}
    for kind, thing_id in made.items():
        assert kind_of(store, thing_id) == kind
        for other in made.keys() - {kind}:
            for form in ("html", "json", "csv"):
                with pytest.raises(AppError, match=f"{thing_id} is of the kind"):
                    export(store, other, thing_id, form)
    with pytest.raises(NotFoundError):
        kind_of(store, "nobody")
    link = f"http://127.0.0.1:7860/?run={made['run']}&inspection={made['inspection']}"
    assert thing_in_link(link) == made["run"]
    assert thing_in_link(f"{link}&tab=inspect") == made["inspection"]
    assert thing_in_link(f"{link}&tab=history") == made["run"]
    assert thing_in_link("abc_123") == "abc_123"


def test_the_command_line_finds_out_what_it_is(
    store: Store, run: RunCommand, tmp_path: Any
) -> None:
    inspection_id = save_inspection(store, HOSTILE)
    for form in ("html", "json", "csv"):
        out = tmp_path / f"inspection.{form}"
        assert run("export", inspection_id, str(out)).status == 0
        linked = f"http://127.0.0.1:7860/?inspection={inspection_id}"
        piped = run("export", linked, "-", "--format", form).out
        assert piped.encode() == out.read_bytes()
    done = json.loads(run("import", str(tmp_path / "inspection.json"), "--json").out)
    assert done["kind"] == "inspection"
    assert contents(store, done["id"]) == contents(store, inspection_id)
    assert "no run 'x'" in one_line(run("export", "x", "-", "--format", "csv"))


WRONG: list[tuple[Change, str]] = [
    (drop("inspection"), "inspection must be an object, got nothing"),
    (put("inspection.prompt", "x"), "inspection has an unknown field 'prompt'"),
    (put("inspection.text", 5), "inspection.text must be text"),
    (put("inspection.status", "running"), "inspection.status must be that of a run that has ended"),
    (put("inspection.created_at", "now"), "inspection.created_at must be an ISO 8601 time"),
    (drop("inspection.config.generated"), "inspection.config lacks the field 'generated'"),
    (put("inspection.config.schedules", []), "start.rows must be dense as in inspection.config"),
    (put("inspection.config.schedules.0.kind", "dense"), "leave dense out of the schedules"),
    (put("inspection.start", None), "start must be an object where there are tokens"),
    (put("inspection.start.prefix", []), "prefix must hold at least one token"),
    (put("inspection.start.rows.0", "static"), "start.rows must be dense, static, policy:default"),
    (put("inspection.end.report.rows", []), "report.rows must be static, .*, got none"),
    (put("inspection.end.report.rows.0.correlation", {}), r"rows\[0\].correlation must have keep"),
    (put("inspection.end.report.rows.0.correlation.bits", 1), "bits must be an object"),
    (put("inspection.end.report.least_confident.0.index", 2), "names token 2; there are tokens"),
    (put("tokens", {}), "tokens must be a list"),
    (put("tokens.1.index", 0), r"tokens\[1\].index must be 1, got 0"),
    (put("tokens.1.rows", []), r"tokens\[1\].rows must be dense, static, policy:default, emc"),
    (put("tokens.0.rows.1.name", "dense"), r"tokens\[0\].rows must be .* got dense, dense"),
    (put("tokens.0.rows.1.action.bit_width", 99), "bits must be between 2 and 16"),
    (
        put("tokens.0.rows.1.nll", "1"),
        r"rows\[1\].nll must be a finite number .*got '1'",
    ),
    (put("tokens.0.step_ms", None), "step_ms must be a finite number"),
    (put("version", 2), "version 2 of sol-explorer-inspection, this release reads up to 1"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_wrong_is_named_and_nothing_is_saved(
    store: Store, change: Change, said: str
) -> None:
    document = json.loads(as_json(store, save_inspection(store, [" a", " b"])))
    change(document)
    with pytest.raises(DocumentError, match=said):
        import_document(store, "b" * 32, json.dumps(document).encode())
    assert len(store.runs.list()) == 1


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_refused_or_opens(store: Store, data: st.DataObject) -> None:
    document = json.loads(as_json(store, save_inspection(store, [" a", " b"])))
    check_damage(store, document, data)


def test_csv_has_a_row_per_token_and_schedule(store: Store) -> None:
    inspection_id = save_inspection(store, HOSTILE)
    made = export(store, "inspection", inspection_id, "csv")
    assert made.name == "inspection-a-script-text.csv"
    rows = list(csv.DictReader(io.StringIO(made.text, newline="")))
    assert len(rows) == 4 * len(HOSTILE)
    names = ["dense", "static", "policy:default", "emc"]
    assert [row["schedule"] for row in rows[:5]] == [*names, "dense"]
    assert [row["text"] for row in rows[:16:4]] == list(HOSTILE[:4])
    assert {row["text"] for row in rows if row["index"] == str(HOSTILE.index("=1+1"))} == {"'=1+1"}
    assert (rows[0]["keep_fraction"], rows[1]["keep_fraction"]) == ("1.0", "0.5")
    recorded = store.runs.events(inspection_id)[0]["rows"][2]
    assert float(rows[2]["nll"]) == pytest.approx(recorded["nll"], rel=1e-4)
    read = sum(value for name, value in recorded["cost"].items() if name.endswith("_bytes"))
    assert float(rows[2]["bytes_read"]) == pytest.approx(read)
    assert None not in rows[0].values()


def test_html_of_500_tokens_under_four_schedules_is_small(store: Store) -> None:
    tokens = [f" word{index}" for index in range(500)]
    page = export(store, "inspection", save_inspection(store, tokens), "html").text
    assert len(page.encode()) < 700_000  # the limit is 1.5 MB
