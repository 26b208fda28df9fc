"""Comparisons as files: both runs come back as they were, and nothing else gets in."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.host.errors import AppError, DocumentError
from app.sharing import export, import_document, kind_of, thing_in_link
from sol_core.errors import SolError
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
from tests.support.comparison_samples import save_pair
from tests.support.exported_page import data_of
from tests.support.inspection_samples import save_inspection

FIRST = (" the", " sea", " was", " calm", " and", " the", " sky")
SECOND = (" the", " sea", " roared", " and", " the", " sky", " blue")


def as_json(store: Store, pair: str) -> bytes:
    return export(store, "comparison", pair, "json").text.encode("ascii")


def without_ids(data: bytes) -> dict[str, Any]:
    document = dict(json.loads(data))
    for side in document["sides"]:
        del side["run"]["id"]
    return document


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(
    texts=st.tuples(*[st.lists(st.text(st.characters(), max_size=4), max_size=6).map(tuple)] * 2),
    has_shadow=st.booleans(),
    is_same=st.booleans(),
)
def test_any_comparison_comes_back_as_it_was(
    store: Store, texts: tuple[Any, Any], has_shadow: bool, is_same: bool
) -> None:
    pair = save_pair(store, *texts, ("p", "p" if is_same else "q"), has_shadow=has_shadow)
    made = as_json(store, pair)
    kind, copied = import_document(store, "b" * 32, made)
    assert kind == kind_of(store, copied) == "comparison"
    for before, after in zip(pair.split(","), copied.split(","), strict=True):
        assert before != after
        assert contents(store, after) == contents(store, before)
        assert store.runs.get(after).owner == "b" * 32
    assert without_ids(as_json(store, copied)) == without_ids(made)


def test_the_document_says_where_they_part_and_what_the_dense_row_measured(store: Store) -> None:
    document = json.loads(as_json(store, save_pair(store, FIRST, SECOND)))
    assert document["alignment"] == {
        "same_prompt": True,
        "first_divergence": 2,
        "stretches": [
            {"same": True, "first": [0, 2], "second": [0, 2]},
            {"same": False, "first": [2, 4], "second": [2, 3]},
            {"same": True, "first": [4, 7], "second": [3, 6]},
            {"same": False, "first": [7, 7], "second": [6, 7]},
        ],
    }
    for side in document["sides"]:
        measured = [event["side"][0]["surprisal"] for event in side["events"]]
        assert side["dense_nll"] == measured
    bare = json.loads(as_json(store, save_pair(store, FIRST, SECOND, has_shadow=False)))
    assert [side["dense_nll"] for side in bare["sides"]] == [None, None]


def test_a_model_at_hand_scores_what_the_runs_did_not(store: Store) -> None:
    class Model:
        def dense_nll(self, run_ids: tuple[str, str]) -> list[list[float | None] | None]:
            return [[0.5] * len(FIRST), None]

    class Busy:
        def dense_nll(self, run_ids: tuple[str, str]) -> list[list[float | None] | None]:
            raise SolError("busy")

    pair = save_pair(store, FIRST, SECOND, has_shadow=False)
    made = json.loads(export(store, "comparison", pair, "json", Model()).text)
    assert [side["dense_nll"] for side in made["sides"]] == [[0.5] * 7, None]
    assert export(store, "comparison", pair, "json", Busy()).text.encode() == as_json(store, pair)
    page = export(store, "comparison", pair, "html", Model()).text
    sides = data_of(page)["compared"]["sides"]
    assert sides[0] == {"nll": [0.5] * 7, "problem": None}
    assert sides[1]["problem"].startswith("no dense pass")


def test_csv_has_a_row_per_pair(store: Store) -> None:
    pair = save_pair(store, FIRST, SECOND)
    made = export(store, "comparison", pair, "csv")
    assert made.name == "comparison-why-script.csv"
    rows = list(csv.DictReader(io.StringIO(made.text, newline="")))
    assert [(row["a_text"], row["b_text"], row["same"]) for row in rows] == [
        (" the", " the", "True"),
        (" sea", " sea", "True"),
        (" was", " roared", "False"),
        (" calm", "", "False"),
        (" and", " and", "True"),
        (" the", " the", "True"),
        (" sky", " sky", "True"),
        ("", " blue", "False"),
    ]
    assert [row["stretch"] for row in rows] == ["1", "1", "2", "2", "3", "3", "3", "4"]
    assert (rows[0]["b_keep_fraction"], rows[7]["a_index"], rows[7]["b_index"]) == ("0.3", "", "6")
    assert float(rows[0]["a_dense_nll"]) == pytest.approx(0.9 * float(rows[0]["a_surprisal"]))
    apart = save_pair(store, FIRST, SECOND, ("p", "q"))
    rows = list(csv.DictReader(io.StringIO(export(store, "comparison", apart, "csv").text)))
    assert {row["same"] for row in rows} == {"False"}
    assert len(rows) == 7


def test_hostile_text_does_not_run(store: Store) -> None:
    pair = save_pair(store, HOSTILE, HOSTILE[::-1], ("".join(HOSTILE),) * 2)
    page = export(store, "comparison", pair, "html").text
    assert page.count("<script") == page.count("</script>") == 3
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="sol-data">')[0])


def test_html_of_two_times_500_tokens_is_small(store: Store) -> None:
    tokens = tuple(f" word{index}" for index in range(500))
    pair = save_pair(store, tokens, tokens[::-1])
    assert len(export(store, "comparison", pair, "html").text.encode()) < 1_000_000


def test_only_two_ended_generations_make_a_comparison(store: Store, run: RunCommand) -> None:
    run_id = save_run(store)
    inspected = save_inspection(store, [" a"])
    going = store.runs.create("a" * 32, "p", "m", "static", {}).id
    for pair, said in (
        (f"{run_id},{inspected}", "is of the kind inspection"),
        (f"{going},{run_id}", "still going on"),
        (run_id, "two runs' ids with a comma"),
        (f"{run_id},", "two runs' ids with a comma"),
    ):
        for form in ("json", "csv", "html"):
            with pytest.raises(AppError, match=said):
                export(store, "comparison", pair, form)
    with pytest.raises(NotFoundError):
        export(store, "comparison", f"{run_id},nobody", "json")
    assert "no run" in one_line(run("export", f"{run_id},nobody", "-", "--format", "csv"))


def test_the_command_line_takes_two_ids_or_a_link(
    store: Store, run: RunCommand, tmp_path: Any
) -> None:
    pair = save_pair(store, FIRST, SECOND)
    for form in ("html", "json", "csv"):
        out = tmp_path / f"pair.{form}"
        assert run("export", pair, str(out)).status == 0
        link = f"http://127.0.0.1:7860/?compare={pair.replace(',', '%2C')}"
        assert thing_in_link(link) == pair
        assert run("export", link, "-", "--format", form).out.encode() == out.read_bytes()
    done = json.loads(run("import", str(tmp_path / "pair.json"), "--json").out)
    assert done["kind"] == "comparison"
    assert without_ids(as_json(store, done["id"])) == without_ids(as_json(store, pair))


WRONG: list[tuple[Change, str]] = [
    (drop("sides"), "sides must be a list of two runs"),
    (put("sides", [1]), "sides must be a list of two runs"),
    (put("sides.1", 1), r"sides\[1\] must be an object"),
    (put("sides.1.extra", 1), r"sides\[1\] has an unknown field 'extra'"),
    (drop("sides.1.run"), r"sides\[1\].run must be an object, got nothing"),
    (put("sides.1.run.status", "running"), r"sides\[1\].run.status must be that of a run that has"),
    (put("sides.0.events.1.index", 5), r"sides\[0\].events\[1\].index must be 1, got 5"),
    (drop("sides.0.dense_nll"), r"sides\[0\] lacks the field 'dense_nll'"),
    (put("sides.0.dense_nll", [0.5]), r"dense_nll must have 7 values, one per token, got 1"),
    (
        put("sides.0.dense_nll.0", "x"),
        r"dense_nll\[0\] must be a finite number .*got 'x'",
    ),
    (drop("alignment"), "alignment must be an object, got nothing"),
    (put("alignment.stretches.0.same", 1), r"stretches\[0\].same must be true or false"),
    (put("version", 9), "version 9 of sol-explorer-comparison"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_wrong_is_named_and_nothing_is_saved(
    store: Store, change: Change, said: str
) -> None:
    document = json.loads(as_json(store, save_pair(store, FIRST, SECOND)))
    change(document)
    with pytest.raises(DocumentError, match=said):
        import_document(store, "b" * 32, json.dumps(document).encode())
    assert len(store.runs.list()) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sides.0.run.config.side_rows", [{"name": "dense", "schedule": {}}]),
        ("sides.1.run.config", {}),
        ("sides.0.run.config.schedule", {"kind": "policy", "policy": "p"}),
    ],
)
def test_what_is_taken_in_is_shown_in_every_form(store: Store, name: str, value: Any) -> None:
    document = json.loads(as_json(store, save_pair(store, FIRST, SECOND)))
    put(name, value)(document)
    _, pair = import_document(store, "b" * 32, json.dumps(document).encode())
    for form in ("json", "csv", "html"):
        assert export(store, "comparison", pair, form).text


def test_a_saved_run_of_another_shape_is_told_in_a_sentence(store: Store) -> None:
    pair = save_pair(store, FIRST, SECOND)
    store.runs.append_events(pair.partition(",")[0], [{"type": "token", "index": 7}])
    for form in ("csv", "html"):
        with pytest.raises(AppError, match="This comparison is damaged and cannot be shown"):
            export(store, "comparison", pair, form)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_refused_or_opens(store: Store, data: st.DataObject) -> None:
    document = json.loads(as_json(store, save_pair(store, FIRST[:2], SECOND[:3])))
    check_damage(store, document, data)
