"""Runs, inspections and comparisons as files: what is exported comes back, and nothing else."""

import csv
import dataclasses
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.formats import json_safe
from app.host.errors import AppError, DocumentError
from app.sharing.kinds import export, import_documents, kind_of
from sol_core.actions import GRIDS, Action, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import SolError
from sol_core.events import event_to_dict
from sol_core.inspection.records import InspectionConfig
from storage import NotFoundError, RunRecord
from tests.app.command_line import one_line
from tests.support.comparison_samples import save_pair
from tests.support.exported_page import data_of
from tests.support.fake_engine import FakeEngine
from tests.support.inspection_samples import BUDGET, save_inspection

HOSTILE = (
    *("</script><script>alert(1)</script>", "<!-- <script>", "<img src=x onerror=alert(1)>"),
    *(
        "${7*7}", "`", "{{7*7}}", "\n", "\r\n", "\t", "\0", "\u202e", "😀", "\ud83d", '"', "=1+1",
        "",
    ),
)  # fmt: skip
_OWN = ("id", "owner", "updated_at")
DENSE = SideRowConfig("dense", ScheduleConfig("dense"))
CONFIG = GenerationConfig(
    schedule=ScheduleConfig("policy", Budget(0.5, 0.7, 10), policy="default"),
    side_rows=(DENSE,),
    max_new_tokens=20,
    stop_strings=("</script>",),
    grid=GRIDS["default"],
)


def save_run(
    store,
    prompt="Why </script> is the sky blue?",
    tokens=HOSTILE,
    config=CONFIG,
    parent=None,
    action=None,
):
    """A run of the stand-in engine, saved as the page saves it."""
    record = store.runs.create(
        "a" * 32, prompt, "fake-model", config.schedule.kind, json_safe(config.to_dict()),
        parent=parent,
    )  # fmt: skip
    first, *middle, last = FakeEngine(tokens=tokens)(None, prompt, config, lambda: False)
    middle = [dataclasses.replace(event, action=action or event.action) for event in middle]
    store.runs.set_prefill(record.id, json_safe(event_to_dict(first)))
    store.runs.append_events(record.id, [json_safe(event_to_dict(event)) for event in middle])
    store.runs.finish(record.id, "finished", json_safe(event_to_dict(last)))
    return record.id


def save_of(store, kind):
    """The id of a run or an inspection of two tokens."""
    if kind == "run":
        return save_run(store, tokens=(" a", " b"))
    return save_inspection(store, [" a", " b"])


def contents(store, run_id):
    """Everything of a run but its id, owner and the time of its last change."""
    run = store.runs.get(run_id)
    names = [name for name in RunRecord.__dataclass_fields__ if name not in _OWN]
    return (*(getattr(run, name) for name in names), store.runs.events(run_id))


def as_json(store, run_id):
    return export(store, kind_of(store, run_id), run_id, "json").text.encode("ascii")


@settings(max_examples=25)
@given(
    prompt=st.text(st.characters(), min_size=1, max_size=40),
    tokens=st.lists(st.text(st.characters(), max_size=8), min_size=1, max_size=5).map(tuple),
    kind=st.sampled_from(["dense", "static", "emc", "policy"]),
    has_shadow=st.booleans(),
)
def test_any_run_comes_back_as_it_was(store, prompt, tokens, kind, has_shadow):
    schedule = ScheduleConfig(kind, Budget(0.5, 0.7, 9.5), policy="p" if kind == "policy" else None)
    config = GenerationConfig(
        schedule, (DENSE,) if has_shadow else (), max_new_tokens=6, grid=GRIDS["default"]
    )
    run_id = save_run(store, prompt, tokens, config)
    ((sort, copied),) = import_documents(store, "b" * 32, as_json(store, run_id))
    assert sort == "run"
    assert copied != run_id
    assert store.runs.get(copied).owner == "b" * 32
    assert contents(store, copied) == contents(store, run_id)


def test_a_fork_comes_back_with_its_parent_and_its_place(store):
    parent = save_run(store)
    config = dataclasses.replace(CONFIG, given=(3, 1, 4))
    fork = save_run(store, config=config, parent=parent)
    document = json.loads(as_json(store, fork))
    assert document["run"]["parent"] == parent
    ((_, copied),) = import_documents(store, "b" * 32, as_json(store, fork))
    assert contents(store, copied) == contents(store, fork)
    assert store.runs.get(copied).config["given"] == [3, 1, 4]
    assert store.runs.get(copied).parent == parent
    del document["run"]["parent"]  # as an older release writes it
    ((_, orphan),) = import_documents(store, "b" * 32, json.dumps(document).encode())
    assert store.runs.get(orphan).parent is None


def test_a_run_that_goes_on_is_not_exported(store):
    record = store.runs.create("a" * 32, "p", "m", "static", {})
    for form in ("html", "json", "csv"):
        with pytest.raises(AppError, match="still going on"):
            export(store, "run", record.id, form)
    with pytest.raises(NotFoundError):
        export(store, "run", "nobody", "json")
    for kind, form in (("job", "json"), ("run", "pdf")):
        with pytest.raises(DocumentError, match=r"kinds are run, .*, forms are html, json, csv"):
            export(store, kind, record.id, form)


def place_of(document, path):
    """What holds the value at a path such as "events.0.cost.flops", and its key there."""
    *way, last = path.split(".")
    place = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    return place, int(last) if isinstance(place, list) else last


def put(path, value):
    def change(document):
        place, last = place_of(document, path)
        place[last] = value

    return change


def drop(path):
    def change(document):
        place, last = place_of(document, path)
        del place[last]

    return change


WRONG = [
    (put("format", "sol-explorer-policy"), "format is 'sol-explorer-policy'; this release"),
    (put("format", "sol-explorer-inspection"), "inspection must be an object, got nothing"),
    (put("version", 2), "version 2 of sol-explorer-run, this release reads up to 1: update"),
    (put("run.extra", 1), "run has an unknown field 'extra'"),
    (drop("run.prompt"), "run lacks the field 'prompt'"),
    (put("run.prompt", "x" * 1_000_001), "run.prompt must be text of at most 1,000,000"),
    (put("run.created_at", "2026-01-01T00:00:00"), "must have an offset"),
    (put("run.schedule", "static"), "run.config says 'policy'"),
    (put("run.parent", "<b>"), "run.parent must be the id of a run or null, got '<b>'"),
    (put("run.parent", "abc"), "run.parent is that of a fork, but run.config.given is empty"),
    (put("run.config.max_new_tokens", "9"), "max_new_tokens must be a whole number .*got '9'"),
    (put("run.config.grid.bit_widths", [5, 5]), "levels of bit_width must be distinct"),
    (drop("run.prefill.elapsed_ms"), "run.prefill lacks the field 'elapsed_ms'"),
    (put("events.1.index", 7), r"events\[1\].index must be 1, got 7"),
    (put("events.0.action.bit_width", 99), "bits must be between 2 and 16"),
    (put("events.0.token_id", 2**70), "token_id must be a whole number"),
    (put("events.0.top.0.probability", []), r"top\[0\].probability must be a finite number"),
]


WRONG_INSPECTIONS = [
    (drop("inspection"), "inspection must be an object, got nothing"),
    (put("inspection.prompt", "x"), "inspection has an unknown field 'prompt'"),
    (put("inspection.status", "running"), "inspection.status must be that of a run that has ended"),
    (drop("inspection.config.schedules"), "inspection.config lacks the field 'schedules'"),
    (put("inspection.config.schedules", []), "start.rows must be dense as in inspection.config"),
    (put("inspection.start.prefix", []), "prefix must hold at least one token"),
    (put("inspection.end.report.rows.0.correlation", {}), r"rows\[0\].correlation must have keep"),
    (put("inspection.end.report.least_confident.0.index", 2), "names token 2; there are tokens"),
    (put("tokens.1.index", 0), r"tokens\[1\].index must be 1, got 0"),
    (put("tokens.0.rows.1.name", "dense"), r"tokens\[0\].rows must be .* got dense, dense"),
    (put("version", 2), "version 2 of sol-explorer-inspection, this release reads up to 1"),
]


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [*(("run", *one) for one in WRONG), *(("inspection", *one) for one in WRONG_INSPECTIONS)],
)
def test_what_is_wrong_is_named_and_nothing_is_saved(store, kind, change, said):
    document = json.loads(as_json(store, save_of(store, kind)))
    change(document)
    with pytest.raises(DocumentError, match=said):
        import_documents(store, "b" * 32, json.dumps(document).encode())
    assert len(store.runs.list()) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe", "is not text"),
        (b"[" * 5000 + b" " * 100_000, "nested too deep"),
        (b"[" * 100_000, "more objects and lists than any run"),
        (b"[1]", "holds no JSON object"),
        (b'{"format": NaN}', "NaN is no JSON number"),
        (b'{"format": "sol-explorer-run", "version": 1, "x": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * (128 * 1024**2 + 1), "more than 128 MB"),
    ],
    ids=["bytes", "deep", "lists", "list", "nan", "digits", "large"],
)
def test_files_that_are_no_documents(store, data, said):
    with pytest.raises(DocumentError, match=said):
        import_documents(store, "b" * 32, data)


def test_too_many_tokens(store):
    document = json.loads(as_json(store, save_run(store, tokens=(" a",))))
    document["events"] = [0] * 20_001
    with pytest.raises(DocumentError, match="20,001 tokens; at most 20,000"):
        import_documents(store, "b" * 32, json.dumps(document).encode())


@pytest.mark.parametrize("kind", ["run", "inspection"])
@settings(max_examples=40)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_refused_or_opens(store, kind, data):
    """Whatever one value is replaced by: no other error, and what got in can be shown."""
    document = json.loads(as_json(store, save_of(store, kind)))
    place = document
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
        ((kind, new_id),) = import_documents(store, "b" * 32, json.dumps(document).encode())
    except DocumentError:
        return
    for form in ("html", "csv", "json"):
        assert export(store, kind, new_id, form).text


def test_actions_by_layer_come_back_and_csv_has_their_means(store):
    run_id = save_run(store, action=Action([0.25, 0.75], 0.5, 8))
    ((_, copied),) = import_documents(store, "b" * 32, as_json(store, run_id))
    assert contents(store, copied) == contents(store, run_id)
    assert store.runs.events(copied)[0]["action"]["keep_by_layer"] == [0.25, 0.75]
    rows = csv.DictReader(io.StringIO(export(store, "run", copied, "csv").text, newline=""))
    assert {row["keep_fraction"] for row in rows} == {"0.5"}


def test_csv_has_a_row_per_token(store):
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


def test_html_is_one_file_that_runs_only_its_own_script(store):
    run_id, inspection_id = save_run(store), save_inspection(store, HOSTILE, "".join(HOSTILE))
    pair = save_pair(store, HOSTILE, HOSTILE[::-1], ("".join(HOSTILE),) * 2)
    for kind, thing in (("run", run_id), ("inspection", inspection_id), ("comparison", pair)):
        made = export(store, kind, thing, "html").text
        assert made.count("<script") == made.count("</script>") == 3
        assert "<!--" not in made.split("<body>")[1].split('<script type="module">')[0]
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", made.split('id="sol-data">')[0])
        assert made.startswith("<!DOCTYPE html>")
        assert "default-src 'none'; script-src 'sha256-" in made
        if kind != "comparison":
            assert [row["text"] for row in data_of(made)["rows"][:4]] == list(HOSTILE[:4])
    assert (
        "<title>Why &lt;/script&gt; is the sky blue? · SOL Explorer</title>"
        in export(store, "run", run_id, "html").text
    )


def test_export_and_import(run, store, tmp_path):
    run_id = save_run(store)
    for form in ("html", "json", "csv"):
        out = tmp_path / f"run.{form}"
        done = run("export", run_id, str(out))
        assert (done.status, done.out) == (0, "")
        assert done.err.startswith(f"wrote {out} (")
        piped = run("export", run_id, "-", "--format", form)
        assert piped.err == ""
        assert piped.out.encode() == out.read_bytes()
    done = run("import", str(tmp_path / "run.json"), "--json")
    made = json.loads(done.out)
    assert made["kind"] == "run"
    assert contents(store, made["id"]) == contents(store, run_id)


def test_what_cannot_be_exported_or_imported(run, store, tmp_path):
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


def test_a_list_of_runs_is_imported_as_a_whole_or_not_at_all(run, store, tmp_path):
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
    file.write_text(json.dumps([one, one | {"run": one["run"] | {"status": "running"}}]))
    assert "run.status must be" in one_line(run("import", str(file)))
    assert run("runs", "list").out == before, "nothing of either was saved"
    file.write_text("[]")
    assert "holds no JSON object" in one_line(run("import", str(file)))


def without_id(data):
    document = dict(json.loads(data))
    del document["inspection"]["id"]
    return document


@settings(max_examples=20)
@given(
    text=st.text(st.characters(), min_size=1, max_size=40),
    tokens=st.lists(st.text(st.characters(), max_size=8), max_size=5),
    kinds=st.lists(st.sampled_from(["static", "emc", "painted"]), max_size=3, unique=True),
)
def test_any_inspection_comes_back_as_it_was(store, text, tokens, kinds):
    painted = {"painted": (Action(0.5, 0.75, 10), Action())}
    schedules = (ScheduleConfig(kind, BUDGET, painted=painted.get(kind, ())) for kind in kinds)
    inspection_id = save_inspection(
        store, tokens, text, InspectionConfig(tuple(schedules), grid=GRIDS["default"])
    )
    made = as_json(store, inspection_id)
    ((kind, copied),) = import_documents(store, "b" * 32, made)
    assert (kind, kind_of(store, copied)) == ("inspection", "inspection")
    assert copied != inspection_id
    assert contents(store, copied) == contents(store, inspection_id)
    assert without_id(as_json(store, copied)) == without_id(made)


def test_an_inspection_that_ended_early_comes_back_too(store):
    config = InspectionConfig((ScheduleConfig("static", BUDGET),), grid=GRIDS["default"])
    record = store.runs.create(
        "a" * 32, "t", "m", "dense, static", json_safe(config.to_dict()), "inspection"
    )
    with pytest.raises(AppError, match="still going on"):
        as_json(store, record.id)
    store.runs.finish(record.id, "failed", error="no <b>model</b>")
    ((_, copied),) = import_documents(store, "b" * 32, as_json(store, record.id))
    assert contents(store, copied) == contents(store, record.id)
    for form in ("html", "csv"):
        assert export(store, "inspection", copied, form).text


def test_runs_and_inspections_are_told_apart(store, run):
    made = {"run": save_run(store), "inspection": save_inspection(store, [" a"])}
    for kind, thing_id in made.items():
        assert kind_of(store, thing_id) == kind
        for other in made.keys() - {kind}:
            for form in ("html", "json", "csv"):
                with pytest.raises(AppError, match=f"{thing_id} is of the kind"):
                    export(store, other, thing_id, form)
    with pytest.raises(NotFoundError):
        kind_of(store, "nobody")


def test_csv_has_a_row_per_token_and_schedule(store):
    inspection_id = save_inspection(store, HOSTILE)
    made = export(store, "inspection", inspection_id, "csv")
    assert made.name == "inspection-a-script-text.csv"
    rows = list(csv.DictReader(io.StringIO(made.text, newline="")))
    assert len(rows) == 4 * len(HOSTILE)
    names = ["dense", "static", "policy:default", "emc"]
    assert [row["schedule"] for row in rows[:5]] == [*names, "dense"]
    assert [row["text"] for row in rows[:16:4]] == list(HOSTILE[:4])
    assert (rows[0]["keep_fraction"], rows[1]["keep_fraction"]) == ("1.0", "0.5")
    recorded = store.runs.events(inspection_id)[0]["rows"][2]
    assert float(rows[2]["nll"]) == pytest.approx(recorded["nll"], rel=1e-4)
    read = sum(value for name, value in recorded["cost"].items() if name.endswith("_bytes"))
    assert float(rows[2]["bytes_read"]) == pytest.approx(read)
    assert None not in rows[0].values()


FIRST = (" the", " sea", " was", " calm", " and", " the", " sky")
SECOND = (" the", " sea", " roared", " and", " the", " sky", " blue")


def page(store, pair, score=None):
    return export(store, "comparison", pair, "html", score).text


def test_the_page_says_where_they_part_and_what_the_dense_row_measured(store):
    shown = data_of(page(store, save_pair(store, FIRST, SECOND)))
    assert shown["compared"]["same_prompt"]
    assert shown["compared"]["parted"] == 2
    assert shown["compared"]["stretches"] == [
        [True, 0, 2, 0, 2],
        [False, 2, 4, 2, 3],
        [True, 4, 7, 3, 6],
        [False, 7, 7, 6, 7],
    ]
    for view, side in zip(shown["views"], shown["compared"]["sides"], strict=True):
        assert side["nll"] == [row["side"][0]["surprisal"] for row in view["rows"]]
    bare = data_of(page(store, save_pair(store, FIRST, SECOND, has_shadow=False)))
    assert [side["nll"] for side in bare["compared"]["sides"]] == [None, None]


def test_a_model_at_hand_scores_what_the_runs_did_not(store):
    def scored(run_ids):
        return [[0.5] * len(FIRST), None]

    def busy(run_ids):
        raise SolError("busy")

    pair = save_pair(store, FIRST, SECOND, has_shadow=False)
    sides = data_of(page(store, pair, scored))["compared"]["sides"]
    assert sides[0] == {"nll": [0.5] * 7, "problem": None}
    assert sides[1]["problem"].startswith("no dense pass")
    assert page(store, pair, busy) == page(store, pair)


def test_only_two_ended_generations_make_a_comparison(store, run):
    run_id = save_run(store)
    inspected = save_inspection(store, [" a"])
    going = store.runs.create("a" * 32, "p", "m", "static", {}).id
    for pair, said in (
        (f"{run_id},{inspected}", "is of the kind inspection"),
        (f"{going},{run_id}", "still going on"),
        (f"{run_id},", "two runs' ids with a comma"),
    ):
        with pytest.raises(AppError, match=said):
            page(store, pair)
    with pytest.raises(NotFoundError):
        page(store, f"{run_id},nobody")
    assert "no run" in one_line(run("export", f"{run_id},nobody", "-", "--format", "html"))


def test_the_command_line_takes_two_ids(store, run, tmp_path):
    pair = save_pair(store, FIRST, SECOND)
    out = tmp_path / "pair.html"
    assert run("export", pair, str(out)).status == 0
    assert run("export", pair, "-", "--format", "html").out.encode() == out.read_bytes()
    for form in ("json", "csv"):
        with pytest.raises(DocumentError, match=f"exported as {form}.* forms are html$"):
            export(store, "comparison", pair, form)


def test_a_saved_run_of_another_shape_is_told_in_a_sentence(store):
    pair = save_pair(store, FIRST, SECOND)
    store.runs.append_events(pair.partition(",")[0], [{"type": "token", "index": 7}])
    with pytest.raises(AppError, match="This comparison is damaged and cannot be shown"):
        page(store, pair)
