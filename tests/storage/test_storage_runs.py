"""RunStore on a real file: what is saved, in which order, and what is refused."""

import math
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import NotFoundError, open_store
from storage.errors import InvalidRecordError
from storage.records import TITLE_LENGTH, title_of
from tests.storage.child_python import ENGINES

any_text = st.text(st.characters())


@pytest.fixture(scope="module", params=ENGINES)
def shared_store(request, tmp_path_factory):
    """One store for hypothesis, which runs a test many times within one fixture."""
    with ExitStack() as opened:
        place = tmp_path_factory.mktemp("shared") / "sol.sqlite3"
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            place = opened.enter_context(server.database())
        yield opened.enter_context(open_store(place))


def new_run(store, prompt="Once upon a time", owner="alice"):
    return store.runs.create(owner, prompt, "model", "static", {"max_new_tokens": 4})


def token_rows(*indices):
    return [{"type": "token", "index": index, "text": f"t{index}"} for index in indices]


def test_create_returns_what_get_returns(store):
    before = datetime.now(UTC)
    run = new_run(store)
    assert store.runs.get(run.id) == run
    assert (run.status, run.num_tokens, run.summary, run.error) == ("running", 0, None, None)
    assert before - timedelta(seconds=1) <= run.created_at == run.updated_at
    assert run.created_at.utcoffset() == timedelta(0)
    assert re.fullmatch(r"[\w-]+", run.id, re.ASCII)


@settings(max_examples=60)
@given(text=any_text)
@example("nul \x00 inside, lone \ud800 surrogate \udfff, %_\\'\"; DROP TABLE runs; --")
@example("שלום عربى \u202e reversed, 👩‍👩‍👧‍👦, line\r\nbreak\u2028\ttab")
def test_any_text_round_trips_everywhere(shared_store, text):
    runs = shared_store.runs
    run = runs.create(text, text, text, text, {text: [text]})
    rows = [{"index": index, "text": piece} for index, piece in enumerate((text, *text[:3]))]
    assert runs.append_events(run.id, rows) == len(rows)
    runs.set_prefill(run.id, {"prompt_text": text})
    runs.finish(run.id, "failed", {"text": text}, error=text)
    saved = runs.get(run.id)
    assert (saved.owner, saved.prompt, saved.model, saved.schedule) == (text, text, text, text)
    assert (saved.config, saved.prefill) == ({text: [text]}, {"prompt_text": text})
    assert (saved.summary, saved.error) == ({"text": text}, text)
    assert runs.events(run.id) == rows
    (newest,) = runs.list(owner=text, query=text, limit=1)
    assert newest.id == run.id


@settings(max_examples=60)
@given(prompt=any_text, data=st.data())
def test_any_part_of_the_prompt_finds_the_run(shared_store, prompt, data):
    start = data.draw(st.integers(0, len(prompt)))
    part = prompt[start : data.draw(st.integers(start, len(prompt)))]
    run = shared_store.runs.create("search", prompt, "m", "dense", {})
    (newest,) = shared_store.runs.list(owner="search", limit=1, query=part)
    assert newest.id == run.id
    title = title_of(prompt)
    assert 1 <= len(title) <= TITLE_LENGTH
    assert title.splitlines() == [title]


@settings(max_examples=30)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=6))
def test_the_first_row_of_an_index_is_kept(shared_store, batches):
    run, kept = new_run(shared_store), dict[int, dict[str, Any]]()
    for number, batch in enumerate(batches):
        rows = [{"index": index, "batch": number} for index in batch]
        new = {row["index"]: row for row in reversed(rows) if row["index"] not in kept}
        assert shared_store.runs.append_events(run.id, rows) == len(new)
        kept |= new
    assert shared_store.runs.get(run.id).num_tokens == len(kept)
    assert shared_store.runs.events(run.id) == [kept[index] for index in sorted(kept)]


@pytest.mark.parametrize("index", [None, "3", 1.0, True, -1, 2**31, "missing", math.nan])
def test_a_refused_row_saves_nothing_of_its_batch(store, index):
    run = new_run(store)
    bad = {} if index == "missing" else {"index": index}
    with pytest.raises(InvalidRecordError, match=r'"index" that is a whole number from 0'):
        store.runs.append_events(run.id, [*token_rows(0), bad])
    with pytest.raises(InvalidRecordError, match="finite"):
        store.runs.append_events(run.id, [*token_rows(0), {"index": 1, "surprisal": math.nan}])
    assert store.runs.events(run.id) == []
    assert store.runs.get(run.id) == run


def test_finish(store):
    for status in ("finished", "stopped", "failed", "interrupted"):
        run = new_run(store)
        store.runs.finish(run.id, status, summary={"num_tokens": 3}, error="why")
        saved = store.runs.get(run.id)
        assert (saved.status, saved.summary, saved.error) == (status, {"num_tokens": 3}, "why")


def test_pages_cover_every_run_once_while_others_come_and_go(store):
    bobs = new_run(store, owner="bob").id
    ids = [new_run(store, prompt=f"prompt {number}").id for number in range(7)]
    first = store.runs.list(owner="alice", limit=3)
    new_run(store, prompt="created between two pages")
    store.runs.delete(ids[5])
    second = store.runs.list(owner="alice", limit=3, before=first[-1].id)
    third = store.runs.list(owner="alice", limit=3, before=second[-1].id)
    assert [run.id for run in (*first, *second, *third)] == ids[::-1]
    assert [run.id for run in store.runs.list(before=ids[0])] == [bobs]
    assert store.runs.list(owner="nobody") == []


def test_query_takes_every_character_literally(store):
    prompts = ("100% sure", "snake_case", "back\\slash", "ПРИВЕТ", "Straße")
    for prompt in prompts:
        new_run(store, prompt=prompt)
    queries = ("%", "_", "\\", "привет", "strasse")
    for query, found in zip(queries, prompts, strict=True):
        assert [run.prompt for run in store.runs.list(query=query)] == [found]
    assert [run.prompt for run in store.runs.list(query="SURE")] == ["100% sure"]
    assert store.runs.list(query="'") == []
    assert len(store.runs.list(query="")) == 5


def test_limits_are_checked(store):
    for limit in (0, -1, 2**63):
        with pytest.raises(InvalidRecordError, match="limit"):
            store.runs.list(limit=limit)


def test_delete_takes_the_events_along(store):
    run, other = new_run(store), new_run(store)
    for each in (run, other):
        store.runs.append_events(each.id, token_rows(0, 1))
    store.runs.delete(run.id)
    assert [left.id for left in store.runs.list()] == [other.id]
    with store._database.read() as connection:
        rows = connection.exec_driver_sql("SELECT run_id FROM events").scalars().all()
    assert rows == [other.id] * 2


def test_a_missing_run_is_named(store):
    runs = store.runs
    calls = (
        *(partial(call, "gone") for call in (runs.get, runs.events, runs.delete)),
        *(partial(runs.append_events, "gone", rows) for rows in ([], token_rows(0))),
        partial(runs.set_prefill, "gone", {}),
        partial(runs.finish, "gone", "finished"),
        partial(runs.list, before="gone"),
    )
    for call in calls:
        with pytest.raises(NotFoundError, match="no run 'gone'") as caught:
            call()
        assert isinstance(caught.value, LookupError)


def test_mark_interrupted_spares_what_is_over(store):
    dead, over = (new_run(store) for _ in range(2))
    store.runs.finish(over.id, "finished")
    assert store.runs.mark_interrupted() == 1
    statuses = [store.runs.get(run.id).status for run in (dead, over)]
    assert statuses == ["interrupted", "finished"]
    assert store.runs.mark_interrupted() == 0


def test_everything_is_there_after_reopening(location):
    with open_store(location) as first:
        run = new_run(first)
        first.runs.append_events(run.id, token_rows(*range(50)))
        first.runs.finish(run.id, "stopped", {"reason": "stopped"})
        saved = first.runs.get(run.id)
    with open_store(location) as second:
        assert second.notices == ()
        assert second.runs.list() == [saved]
        assert second.runs.events(run.id) == token_rows(*range(50))
        assert second.runs.events(run.id, after=2, limit=3) == token_rows(3, 4, 5)
        assert second.runs.events(run.id, after=49) == []


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("\n  \n  second \t line\nthird", "second line"),
        (" \n ", "(empty prompt)"),
        ("A story.\n\nQuestion: Who  came?\nAnswer: It was", "Who came?"),
        ("Question:\nAnswer:", "Question:"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
    ],
)
def test_titles(prompt, title):
    assert title_of(prompt) == title


def test_a_run_has_a_kind_and_is_found_by_it(store):
    made = store.runs.create("alice", "a text", "model", "static", {})
    read = store.runs.create("alice", "a text", "model", "static", {}, "inspection")
    assert (made.kind, read.kind) == ("generation", "inspection")
    assert [run.id for run in store.runs.list()] == [read.id, made.id]
    assert [run.id for run in store.runs.list(kind="generation")] == [made.id]
    assert [run.id for run in store.runs.list(kind="inspection", query="TEXT")] == [read.id]


def test_sizes_are_of_ended_runs_with_all_that_goes_with_them(store):
    old, bare, going = (new_run(store, "é" * size) for size in (500, 10, 10))
    store.runs.append_events(old.id, [{"index": 0, "text": "x" * 3000}, {"index": 1}])
    store.runs.finish(old.id, "failed", {"reason": "y" * 700}, "z" * 900)
    store.runs.finish(bare.id, "finished")
    first, second = store.runs.sizes()
    assert (first.id, second.id) == (old.id, bare.id)
    assert first.owner == second.owner
    assert 0 < first.num_bytes - (2 * 1000 + 3000 + 700 + 900) < 200
    assert 0 < second.num_bytes < 200
    assert store.runs.delete_ended([old.id, going.id, "nobody"]) == 1
    assert [run.id for run in store.runs.list()] == [going.id, bare.id]


def test_runs_that_name_a_policy_are_counted_of_all_or_of_an_owner(store):
    for owner, policy in (("alice", "p"), ("bob", "p"), ("bob", "p"), ("bob", "q")):
        store.runs.create(owner, "x", "m", "policy", {"schedule": {"policy": policy}})
    counts = [store.runs.count_naming("p", owner) for owner in (None, "alice", "bob", "carol")]
    assert counts == [3, 1, 2, 0]
