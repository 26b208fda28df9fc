"""RunStore on a real file: what is saved, in which order, and what is refused."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import InvalidRecordError, NotFoundError, RunRecord, Store, open_store
from storage.records import FINAL_STATUSES, TITLE_LENGTH, title_of
from tests.storage.child_python import ENGINES

any_text = st.text(st.characters())
AWKWARD_TEXTS = [
    "",
    "plain",
    "nul \x00 inside",
    "lone \ud800 surrogate \udfff",
    "emoji 👩‍👩‍👧‍👦 and half \ud83d",
    "שלום عربى \u202e reversed",
    "%_\\'\"; DROP TABLE runs; --",
    "line\r\nbreak\u2028\ttab",
]


@pytest.fixture(scope="module", params=ENGINES)
def shared_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One store for hypothesis, which runs a test many times within one fixture."""
    with ExitStack() as opened:
        place: Path | str = tmp_path_factory.mktemp("shared") / "sol.sqlite3"
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            place = opened.enter_context(server.database())
        yield opened.enter_context(open_store(place))


def new_run(store: Store, prompt: str = "Once upon a time", owner: str = "alice") -> RunRecord:
    return store.runs.create(owner, prompt, "model", "static", {"max_new_tokens": 4})


def token_rows(*indices: int) -> list[dict[str, Any]]:
    return [{"type": "token", "index": index, "text": f"t{index}"} for index in indices]


def test_create_returns_what_get_returns(store: Store) -> None:
    before = datetime.now(UTC)
    run = new_run(store)
    assert store.runs.get(run.id) == run
    assert (run.status, run.num_tokens) == ("running", 0)
    assert (run.prefill, run.summary, run.error) == (None, None, None)
    assert before - timedelta(seconds=1) <= run.created_at == run.updated_at
    assert run.created_at.utcoffset() == timedelta(0)
    assert run.id.replace("-", "").replace("_", "").isalnum()
    assert run.id.isascii()


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_awkward_text_round_trips_everywhere(store: Store, text: str) -> None:
    run = store.runs.create(text, text, text, text, {text: [text]})
    store.runs.append_events(run.id, [{"index": 0, "text": text}])
    store.runs.set_prefill(run.id, {"prompt_text": text})
    store.runs.finish(run.id, "failed", {"text": text}, error=text)
    saved = store.runs.get(run.id)
    assert (saved.owner, saved.prompt, saved.model, saved.schedule) == (text, text, text, text)
    assert saved.config == {text: [text]}
    assert (saved.prefill, saved.summary, saved.error) == (
        {"prompt_text": text},
        {"text": text},
        text,
    )
    assert store.runs.events(run.id) == [{"index": 0, "text": text}]
    assert [found.id for found in store.runs.list(owner=text, query=text)] == [run.id]


@settings(max_examples=60)
@given(owner=any_text, prompt=any_text, pieces=st.lists(any_text, max_size=5))
def test_any_text_round_trips(
    shared_store: Store, owner: str, prompt: str, pieces: list[str]
) -> None:
    run = shared_store.runs.create(owner, prompt, "m", "dense", {})
    rows = [{"index": index, "text": piece} for index, piece in enumerate(pieces)]
    assert shared_store.runs.append_events(run.id, rows) == len(rows)
    saved = shared_store.runs.get(run.id)
    assert (saved.owner, saved.prompt, saved.num_tokens) == (owner, prompt, len(pieces))
    assert shared_store.runs.events(run.id) == rows


@settings(max_examples=60)
@given(prompt=any_text, data=st.data())
def test_any_part_of_the_prompt_finds_the_run(
    shared_store: Store, prompt: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(prompt)))
    part = prompt[start : data.draw(st.integers(start, len(prompt)))]
    run = shared_store.runs.create("search", prompt, "m", "dense", {})
    newest = shared_store.runs.list(owner="search", limit=1, query=part)
    assert [found.id for found in newest] == [run.id]


@settings(max_examples=30)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=6))
def test_num_tokens_counts_distinct_indices(shared_store: Store, batches: list[list[int]]) -> None:
    run = new_run(shared_store)
    for batch in batches:
        shared_store.runs.append_events(run.id, token_rows(*batch))
    distinct = sorted(set(itertools.chain.from_iterable(batches)))
    assert shared_store.runs.get(run.id).num_tokens == len(distinct)
    assert shared_store.runs.events(run.id) == token_rows(*distinct)


def test_the_first_row_of_an_index_is_kept(store: Store) -> None:
    run = new_run(store)
    assert store.runs.append_events(run.id, token_rows(0, 1)) == 2
    changed = [{"index": 1, "text": "other"}, *token_rows(2)]
    assert store.runs.append_events(run.id, changed) == 1
    assert store.runs.events(run.id) == token_rows(0, 1, 2)


def test_events_by_cursor_and_limit(store: Store) -> None:
    run = new_run(store)
    store.runs.append_events(run.id, token_rows(*range(10)))
    assert store.runs.events(run.id, after=6) == token_rows(7, 8, 9)
    assert store.runs.events(run.id, after=2, limit=3) == token_rows(3, 4, 5)
    assert store.runs.events(run.id, after=9) == []


def test_a_refused_row_saves_nothing_of_its_batch(store: Store) -> None:
    run = new_run(store)
    for bad in ({"index": 1, "surprisal": math.nan}, {"text": "no index"}, {"index": -1}):
        with pytest.raises(InvalidRecordError):
            store.runs.append_events(run.id, [*token_rows(0), bad])
    assert store.runs.events(run.id) == []
    assert store.runs.get(run.id) == run


@pytest.mark.parametrize("index", [None, "3", 1.0, True, -1, 2**31])
def test_an_index_must_be_a_whole_number(store: Store, index: Any) -> None:
    run = new_run(store)
    with pytest.raises(InvalidRecordError, match=r'"index" that is a whole number from 0'):
        store.runs.append_events(run.id, [{"index": index}])


def test_every_change_moves_updated_at(store: Store) -> None:
    run = new_run(store)
    moments = [run.updated_at]
    changes = (
        lambda: store.runs.set_prefill(run.id, {"elapsed_ms": 1.5}),
        lambda: store.runs.append_events(run.id, token_rows(0)),
        lambda: store.runs.finish(run.id, "finished", {"reason": "length"}),
    )
    for change in changes:
        time.sleep(0.001)
        change()
        moments.append(store.runs.get(run.id).updated_at)
    assert moments == sorted(set(moments))
    assert store.runs.get(run.id).created_at == run.created_at


@pytest.mark.parametrize("status", FINAL_STATUSES)
def test_finish(store: Store, status: Any) -> None:
    run = new_run(store)
    store.runs.finish(run.id, status, summary={"num_tokens": 3}, error="why")
    saved = store.runs.get(run.id)
    assert (saved.status, saved.summary, saved.error) == (status, {"num_tokens": 3}, "why")


@pytest.mark.parametrize("status", ["running", "done", ""])
def test_finish_refuses_other_statuses(store: Store, status: Any) -> None:
    run = new_run(store)
    with pytest.raises(InvalidRecordError, match="allowed: finished, stopped, failed, interrupted"):
        store.runs.finish(run.id, status)
    assert store.runs.get(run.id).status == "running"


def test_pages_cover_every_run_once_while_others_come_and_go(store: Store) -> None:
    ids = [new_run(store, prompt=f"prompt {number}").id for number in range(7)]
    first = store.runs.list(limit=3)
    new_run(store, prompt="created between two pages")
    store.runs.delete(ids[5])
    second = store.runs.list(limit=3, before=first[-1].id)
    third = store.runs.list(limit=3, before=second[-1].id)
    assert [run.id for run in (*first, *second, *third)] == ids[::-1]
    assert store.runs.list(before=ids[0]) == []


def test_list_of_one_owner(store: Store) -> None:
    alices = [new_run(store, owner="alice").id for _ in range(2)]
    bobs = [new_run(store, owner="bob").id for _ in range(2)]
    assert [run.id for run in store.runs.list(owner="alice")] == alices[::-1]
    assert [run.id for run in store.runs.list(owner="bob", before=bobs[1])] == [bobs[0]]
    assert store.runs.list(owner="nobody") == []
    assert len(store.runs.list()) == 4


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("%", ["100% sure"]),
        ("_", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("'", []),
        ("SURE", ["100% sure"]),
        ("привет", ["ПРИВЕТ"]),
        ("strasse", ["Straße"]),
        ("", ["100% sure", "snake_case", "back\\slash", "ПРИВЕТ", "Straße"]),
    ],
)
def test_query_takes_every_character_literally(store: Store, query: str, found: list[str]) -> None:
    for prompt in ("100% sure", "snake_case", "back\\slash", "ПРИВЕТ", "Straße"):
        new_run(store, prompt=prompt)
    assert [run.prompt for run in store.runs.list(query=query)] == found[::-1]


@pytest.mark.parametrize("limit", [0, -1, 2**63])
def test_limits_are_checked(store: Store, limit: int) -> None:
    run = new_run(store)
    with pytest.raises(InvalidRecordError, match="limit"):
        store.runs.list(limit=limit)
    with pytest.raises(InvalidRecordError, match="limit"):
        store.runs.events(run.id, limit=limit)


def test_delete_takes_the_events_along(store: Store) -> None:
    run, other = new_run(store), new_run(store)
    for each in (run, other):
        store.runs.append_events(each.id, token_rows(0, 1))
    store.runs.delete(run.id)
    assert [left.id for left in store.runs.list()] == [other.id]
    assert store.runs.events(other.id) == token_rows(0, 1)
    with store._database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    assert count == 2


def test_a_missing_run_is_named(store: Store) -> None:
    calls = (
        lambda: store.runs.get("gone"),
        lambda: store.runs.events("gone"),
        lambda: store.runs.delete("gone"),
        lambda: store.runs.append_events("gone", token_rows(0)),
        lambda: store.runs.append_events("gone", []),
        lambda: store.runs.set_prefill("gone", {}),
        lambda: store.runs.finish("gone", "finished"),
        lambda: store.runs.list(before="gone"),
    )
    for call in calls:
        with pytest.raises(NotFoundError, match="no run 'gone'") as caught:
            call()
        assert isinstance(caught.value, LookupError)


def test_mark_interrupted_spares_what_is_over(store: Store) -> None:
    dead, over = (new_run(store) for _ in range(2))
    store.runs.finish(over.id, "finished")
    assert store.runs.mark_interrupted() == 1
    statuses = [store.runs.get(run.id).status for run in (dead, over)]
    assert statuses == ["interrupted", "finished"]
    assert store.runs.mark_interrupted() == 0


def test_everything_is_there_after_reopening(location: Path | str) -> None:
    with open_store(location) as first:
        run = new_run(first)
        first.runs.append_events(run.id, token_rows(*range(50)))
        first.runs.finish(run.id, "stopped", {"reason": "stopped"})
        saved = first.runs.get(run.id)
    with open_store(location) as second:
        assert second.notices == ()
        assert second.runs.list() == [saved]
        assert second.runs.events(run.id) == token_rows(*range(50))


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("Tell me a story", "Tell me a story"),
        ("\n  \n  second \t line\nthird", "second line"),
        ("", "(empty prompt)"),
        (" \n ", "(empty prompt)"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
    ],
)
def test_titles(prompt: str, title: str) -> None:
    assert title_of(prompt) == title


@given(any_text)
def test_titles_are_one_short_line(prompt: str) -> None:
    title = title_of(prompt)
    assert 1 <= len(title) <= TITLE_LENGTH
    assert title.splitlines() == [title]


def test_a_run_has_a_kind_and_is_found_by_it(store: Store) -> None:
    made = store.runs.create("alice", "a text", "model", "static", {})
    read = store.runs.create("alice", "a text", "model", "static", {}, "inspection")
    assert (made.kind, read.kind) == ("generation", "inspection")
    assert [run.id for run in store.runs.list()] == [read.id, made.id]
    assert [run.id for run in store.runs.list(kind="generation")] == [made.id]
    assert [run.id for run in store.runs.list(kind="inspection", query="TEXT")] == [read.id]


def test_a_run_is_found_by_a_schedule_that_it_names(store: Store) -> None:
    labels = ("dense", "policy", "dense, static, policy")
    runs = {label: store.runs.create("a", "p", "m", label, {}).id for label in labels}
    found = {
        name: [run.id for run in store.runs.list(schedule=name)]
        for name in ("policy", "static", "random", "")
    }
    of_all, policy, _ = reversed(runs.values())
    assert found["policy"] == [of_all, policy]
    assert found["static"] == [of_all]
    assert found["random"] == []
    assert len(found[""]) == 3
    (last,) = store.runs.list(schedule="policy", before=of_all, limit=1)
    assert last.id == policy


def test_sizes_are_of_ended_runs_with_all_that_goes_with_them(store: Store) -> None:
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


def test_runs_that_name_a_policy_are_counted_of_all_or_of_an_owner(store: Store) -> None:
    for owner, policy in (("alice", "p"), ("bob", "p"), ("bob", "p"), ("bob", "q")):
        store.runs.create(owner, "x", "m", "policy", {"schedule": {"policy": policy}})
    counts = [store.runs.count_naming("p", owner) for owner in (None, "alice", "bob", "carol")]
    assert counts == [3, 1, 2, 0]
