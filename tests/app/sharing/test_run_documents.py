"""Runs as files: what is exported comes back as it was, and nothing else gets in."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.formats.plain_json import json_safe
from app.host.errors import AppError, DocumentError
from app.sharing import export, import_document
from app.sharing.generation_document import GENERATION
from app.sharing.kinds import DOCUMENTS, KINDS
from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.events import event_to_dict
from storage import NotFoundError, RunRecord, Store
from tests.app.command_line import RunCommand, one_line
from tests.support.exported_page import data_of
from tests.support.fake_engine import FakeEngine

HOSTILE = (
    *("</script><script>alert(1)</script>", "<!-- <script>", "<img src=x onerror=alert(1)>"),
    *(
        "${7*7}",
        "`",
        "{{7*7}}",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u202e",
        "😀",
        "\ud83d",
        '"',
        "=1+1",
        "",
    ),
)
_OWN = ("id", "owner", "updated_at")
DENSE = SideRowConfig("dense", ScheduleConfig("dense"))
CONFIG = GenerationConfig(
    schedule=ScheduleConfig("policy", Budget(0.5, 0.7, 10), policy="default"),
    side_rows=(DENSE,),
    max_new_tokens=20,
    stop_strings=("</script>",),
)


def save_run(
    store: Store,
    prompt: str = "Why </script> is the sky blue?",
    tokens: tuple[str, ...] = HOSTILE,
    config: GenerationConfig = CONFIG,
    parent: str | None = None,
) -> str:
    """A run of the stand-in engine, saved as the page saves it."""
    record = store.runs.create(
        "a" * 32,
        prompt,
        "fake-model",
        config.schedule.kind,
        json_safe(config.to_dict()),
        parent=parent,
    )
    first, *middle, last = FakeEngine(tokens=tokens)(None, prompt, config, lambda: False)
    store.runs.set_prefill(record.id, json_safe(event_to_dict(first)))
    store.runs.append_events(record.id, [json_safe(event_to_dict(event)) for event in middle])
    store.runs.finish(record.id, "finished", json_safe(event_to_dict(last)))
    return record.id


def contents(store: Store, run_id: str) -> tuple[Any, ...]:
    """Everything of a run but its id, owner and the time of its last change."""
    run = store.runs.get(run_id)
    names = [name for name in RunRecord.__dataclass_fields__ if name not in _OWN]
    return (*(getattr(run, name) for name in names), store.runs.events(run_id))


def as_json(store: Store, run_id: str) -> bytes:
    return export(store, "run", run_id, "json").text.encode("ascii")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(
    prompt=st.text(st.characters(), min_size=1, max_size=40),
    tokens=st.lists(st.text(st.characters(), max_size=8), min_size=1, max_size=5).map(tuple),
    kind=st.sampled_from(["dense", "static", "emc", "policy"]),
    has_shadow=st.booleans(),
)
def test_any_run_comes_back_as_it_was(
    store: Store, prompt: str, tokens: tuple[str, ...], kind: Any, has_shadow: bool
) -> None:
    schedule = ScheduleConfig(kind, Budget(0.5, 0.7, 9.5), policy="p" if kind == "policy" else None)
    config = GenerationConfig(schedule, (DENSE,) if has_shadow else (), max_new_tokens=6)
    run_id = save_run(store, prompt, tokens, config)
    sort, copied = import_document(store, "b" * 32, as_json(store, run_id))
    assert sort == "run"
    assert copied != run_id
    assert store.runs.get(copied).owner == "b" * 32
    assert contents(store, copied) == contents(store, run_id)


def test_a_fork_comes_back_with_its_parent_and_its_place(store: Store) -> None:
    parent = save_run(store)
    config = dataclasses.replace(CONFIG, given=(3, 1, 4))
    fork = save_run(store, config=config, parent=parent)
    document = json.loads(as_json(store, fork))
    assert document["run"]["parent"] == parent
    _, copied = import_document(store, "b" * 32, as_json(store, fork))
    assert contents(store, copied) == contents(store, fork)
    assert store.runs.get(copied).config["given"] == [3, 1, 4]
    assert store.runs.get(copied).parent == parent
    del document["run"]["parent"]  # as an older release writes it
    _, orphan = import_document(store, "b" * 32, json.dumps(document).encode())
    assert store.runs.get(orphan).parent is None


def test_runs_of_older_releases_come_back_too(store: Store) -> None:
    record = store.runs.create("a" * 32, "old", "m", "static", {})
    event = json_safe(event_to_dict(next(iter(FakeEngine()(None, "x", CONFIG, lambda: False)))))
    tokens = [json_safe(event_to_dict(one)) for one in FakeEngine()(None, "x", CONFIG, lambda: 0)]
    old = {key: value for key, value in tokens[1].items() if key not in ("policy", "parts_ms")}
    store.runs.set_prefill(record.id, event)
    store.runs.append_events(record.id, [old | {"surprisal": None, "kl_to_dense": None}])
    store.runs.finish(record.id, "interrupted")
    document = json.loads(as_json(store, record.id)) | {"integer_mlp": True}  # of generate --json
    _, copied = import_document(store, "b" * 32, json.dumps(document).encode())
    (saved,) = store.runs.events(copied)
    assert saved | store.runs.events(record.id)[0] == saved  # what was not there is filled in
    assert saved.keys() == tokens[1].keys()
    assert store.runs.get(copied).config == json_safe(GenerationConfig().to_dict())
    assert store.runs.get(copied).status == "interrupted"
    assert len(export(store, "run", copied, "csv").text.splitlines()) == 2


def test_a_run_that_goes_on_is_not_exported(store: Store) -> None:
    record = store.runs.create("a" * 32, "p", "m", "static", {})
    for form in ("html", "json", "csv"):
        with pytest.raises(AppError, match="still going on"):
            export(store, "run", record.id, form)
    with pytest.raises(NotFoundError):
        export(store, "run", "nobody", "json")
    for kind, form in (("job", "json"), ("run", "pdf")):
        with pytest.raises(DocumentError, match=r"kinds are run, .*, forms are html, json, csv"):
            export(store, kind, record.id, form)


def check_damage(store: Store, document: dict[str, Any], data: st.DataObject) -> None:
    """Replace one value of a document: it is refused, or what it becomes can be exported."""
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({})
    )
    try:
        kind, new_id = import_document(store, "b" * 32, json.dumps(document).encode())
    except DocumentError:
        return
    for form in ("html", "csv", "json"):
        assert export(store, kind, new_id, form).text


Change = Callable[[dict[str, Any]], Any]


def put(path: str, value: Any) -> Change:
    """Set the value at a path such as "events.0.cost.flops"."""

    def change(document: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = document
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def drop(path: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = document
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        del place[last]

    return change


WRONG: list[tuple[Change, str]] = [
    (put("format", "sol-explorer-policy"), "format is 'sol-explorer-policy'; this release"),
    (put("format", "sol-explorer-inspection"), "inspection must be an object, got nothing"),
    (drop("format"), "format is None"),
    (put("version", 2), "version 2 of sol-explorer-run, this release reads up to 1: update"),
    (put("version", True), "version must be a whole number, got True"),
    (put("version", 0), "version must be a whole number"),
    (drop("run"), "run must be an object, got nothing"),
    (put("run.extra", 1), "run has an unknown field 'extra'"),
    (drop("run.prompt"), "run lacks the field 'prompt'"),
    (put("run.prompt", 5), "run.prompt must be text"),
    (put("run.prompt", "x" * 1_000_001), "run.prompt must be text of at most 1,000,000"),
    (put("run.status", "running"), "got 'running'"),
    (put("run.status", "done"), "run.status must be one of running, finished"),
    (put("run.status", ["finished"]), "run.status must be one of"),
    (put("run.created_at", "yesterday"), "created_at must be an ISO 8601 time"),
    (put("run.created_at", "2026-01-01T00:00:00"), "must have an offset"),
    (put("run.schedule", "static"), "run.config says 'policy'"),
    (put("run.parent", 5), "run.parent must be text"),
    (put("run.parent", "<b>"), "run.parent must be the id of a run or null, got '<b>'"),
    (put("run.parent", "abc"), "run.parent is that of a fork, but run.config.given is empty"),
    (put("run.config", None), "run.config must be an object"),
    (put("run.config.seeds", 1), "run.config has an unknown field"),
    (
        put("run.config.max_new_tokens", "9"),
        "max_new_tokens must be a whole number .*got '9'",
    ),
    (put("run.config.chat", 1), "chat must be true or false, got 1"),
    (
        put("run.config.max_new_tokens", 0),
        "config.max_new_tokens must be .* from 1 to 1,000,000, got 0",
    ),
    (put("run.config.side_rows.0.name", 1), r"run.config.side_rows\[0\].name must be text"),
    (put("run.config.schedule.budget.keep_fraction", 2), "attention kept must be above 0"),
    (put("run.config.grid.bit_widths", [5, 5]), "levels of bit_width must be distinct"),
    (put("run.summary.cost.flops", None), "run.summary.cost.flops must be a finite number"),
    (drop("run.prefill.elapsed_ms"), "run.prefill lacks the field 'elapsed_ms'"),
    (put("events", {}), "events must be a list, got a dict"),
    (put("events.1", 3), r"events\[1\] must be an object, got 3"),
    (put("events.1.index", 7), r"events\[1\].index must be 1, got 7"),
    (put("events.1.text", None), r"events\[1\].text must be text"),
    (
        put("events.0.action.keep_fraction", None),
        "keep_fraction must be a finite number .*got nothing",
    ),
    (put("events.0.action.bit_width", 99), "bits must be between 2 and 16"),
    (put("events.0.step_ms", None), "step_ms must be a finite number"),
    (
        put("events.0.surprisal", "0.5"),
        "surprisal must be a finite number .*got '0.5'",
    ),
    (
        put("events.0.surprisal", True),
        "surprisal must be a finite number .*got True",
    ),
    (put("events.0.surprisal", 10**40), "surprisal must be a finite number"),
    (put("events.0.token_id", 2**70), "token_id must be a whole number"),
    (put("events.0.policy", [[0.1], "x"]), r"policy\[1\] must be a list"),
    (put("events.0.parts_ms.rest", None), "rest must be a finite number"),
    (
        drop("events.0.cost.bytes_read"),
        "bytes_read must be a finite number .*got nothing",
    ),
    (put("events.0.top.0.probability", []), r"top\[0\].probability must be a finite number"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_wrong_is_named_and_nothing_is_saved(
    store: Store, change: Change, said: str
) -> None:
    document = json.loads(as_json(store, save_run(store, tokens=(" a", " b"))))
    change(document)
    with pytest.raises(DocumentError, match=said):
        import_document(store, "b" * 32, json.dumps(document).encode())
    assert len(store.runs.list()) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b'{"format": NaN}', "NaN is no JSON number"),
        (b'{"format": "sol-explorer-run", "version": 1, "x": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * (128 * 1024**2 + 1), "more than 128 MB"),
    ],
    ids=["empty", "bytes", "deep", "list", "nan", "digits", "large"],
)
def test_files_that_are_no_documents(store: Store, data: bytes, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        import_document(store, "b" * 32, data)


def test_too_many_tokens(store: Store) -> None:
    document = json.loads(as_json(store, save_run(store, tokens=(" a",))))
    document["events"] = [0] * 20_001
    with pytest.raises(DocumentError, match="20,001 tokens; at most 20,000"):
        import_document(store, "b" * 32, json.dumps(document).encode())


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_refused_or_opens(store: Store, data: st.DataObject) -> None:
    """Whatever one value is replaced by: no other error, and what got in can be shown."""
    check_damage(store, json.loads(as_json(store, save_run(store, tokens=(" a", " b")))), data)


def test_csv_has_a_row_per_token(store: Store) -> None:
    made = export(store, "run", save_run(store), "csv")
    assert (made.name, made.media_type) == ("run-why-script-is-the-sky-blue.csv", "text/csv")
    rows = list(csv.DictReader(io.StringIO(made.text, newline="")))
    assert len(rows) == 20
    assert [row["text"] for row in rows[:4]] == list(HOSTILE[:4])
    assert rows[7]["text"] == "'\r\n"
    assert rows[12]["text"] == "\ufffd"  # half a character: CSV has no escape for it
    assert rows[14]["text"] == "'=1+1"  # no spreadsheet takes it for a formula
    first = rows[0]
    assert (first["keep_fraction"], first["bit_width"]) == ("0.5", "10")
    assert float(first["dense_surprisal"]) == pytest.approx(0.9 * float(first["surprisal"]))
    assert float(first["dense_bytes_read"]) == 250_000_000
    assert first["policy_ms"] == "0.004"
    assert None not in first.values()


def test_html_is_one_file_that_runs_only_its_own_script(store: Store) -> None:
    run_id = save_run(store, tokens=HOSTILE)
    page = export(store, "run", run_id, "html").text
    assert page.count("<script") == page.count("</script>") == 3
    assert "<!--" not in page.split("<body>")[1].split('<script type="module">')[0]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="sol-data">')[0])
    assert "default-src 'none'; script-src 'sha256-" in page
    rows = data_of(page)["rows"]
    assert [row["text"] for row in rows[:4]] == list(HOSTILE[:4])
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>Why &lt;/script&gt; is the sky blue? · SOL Explorer</title>" in page


def test_html_of_500_tokens_is_small(store: Store) -> None:
    config = GenerationConfig(CONFIG.schedule, (DENSE,), max_new_tokens=500)
    page = export(store, "run", save_run(store, config=config), "html").text
    assert len(page.encode()) < 600_000  # a fifth of it is not data; the limit is 1.5 MB


def test_the_formats_have_the_names_that_files_of_all_releases_have() -> None:
    assert KINDS == ("run", "inspection", "comparison")
    formats = [document.format for document in DOCUMENTS.values()]
    assert formats == ["sol-explorer-run", "sol-explorer-inspection"]


# --- the command line -------------------------------------------------------------------------


def test_export_and_import(run: RunCommand, store: Store, tmp_path: Any) -> None:
    run_id = save_run(store)
    for form in ("html", "json", "csv"):
        out = tmp_path / f"run.{form}"
        done = run("export", run_id, str(out))
        assert (done.status, done.out) == (0, "")
        assert done.err.startswith(f"wrote {out} (")
        piped = run("export", run_id, "-", "--format", form)
        assert piped.err == ""
        assert piped.out.encode() == out.read_bytes()
    linked = run(
        "export", f"http://127.0.0.1:7860/?__theme=dark&run={run_id}", "-", "--format", "csv"
    )
    assert linked.out.encode() == (tmp_path / "run.csv").read_bytes()
    done = run("import", str(tmp_path / "run.json"), "--json")
    made = json.loads(done.out)
    assert made["kind"] == "run"
    assert contents(store, made["id"]) == contents(store, run_id)
    assert re.fullmatch(
        r"imported as run [\w-]{12}; History lists it\n",
        run("import", str(tmp_path / "run.json")).out,
    )


def test_what_cannot_be_exported_or_imported(run: RunCommand, store: Store, tmp_path: Any) -> None:
    assert "none is saved yet" in one_line(run("export", "x", "-", "--format", "csv"))
    run_id = save_run(store)
    assert f"the newest are {run_id} (Why </script> is" in one_line(
        run("export", "x", "-", "--format", "csv")
    )
    assert "give --format html, json, csv" in one_line(run("export", run_id, "-"))
    assert "is a folder" in one_line(run("export", run_id, str(tmp_path), "--format", "csv"))
    assert "No such file" in one_line(run("export", run_id, str(tmp_path / "no" / "x.csv")))
    assert "No such file" in one_line(run("import", str(tmp_path / "no")))
    (tmp_path / "x.json").write_text("{}")
    assert "format is None" in one_line(run("import", str(tmp_path / "x.json")))


def test_ids_are_no_options(store: Store) -> None:
    made = [save_run(store, tokens=(" a",)) for _ in range(60)]
    assert not any("-" in run_id for run_id in made)


def test_documents_are_not_changed_by_reading_them(store: Store) -> None:
    document = json.loads(as_json(store, save_run(store)))
    before = copy.deepcopy(document)
    GENERATION.read(store, "b" * 32, document)
    assert document == before


def test_a_list_of_runs_is_imported_as_a_whole_or_not_at_all(
    run: RunCommand, store: Store, tmp_path: Any
) -> None:
    """As ``generate --prompts --json`` prints one."""
    one = json.loads(run("export", save_run(store), "-", "--format", "json").out)
    file = tmp_path / "many.json"
    file.write_text(json.dumps([one, one]))
    made = json.loads(run("import", str(file), "--json").out)
    assert [record["kind"] for record in made] == ["run", "run"]
    assert contents(store, made[0]["id"]) == contents(store, made[1]["id"])
    before = run("runs", "list").out
    file.write_text(json.dumps([one, {"format": "something else"}]))
    assert "format is 'something else'" in one_line(run("import", str(file)))
    assert run("runs", "list").out == before, "nothing of it was saved"
    file.write_text("[]")
    assert "holds no JSON object" in one_line(run("import", str(file)))
