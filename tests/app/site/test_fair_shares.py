"""What one visitor of a public server cannot take from the others."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.plain_json import json_safe
from app.pages.shared import pair_comparison
from app.runs import queue as generation_runs
from app.runs.storage_cap import fair_choice
from app.sharing.comparison import align_tokens
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from storage import RunSize, Store
from tests.app.public_server import ANNA, BEN, Serve
from tests.app.waiting import wait_until
from tests.support.fake_engine import make_token

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CAROL = "c" * 32
LONG = 4000


def save_run(store: Store, owner: str, token_ids: list[int]) -> str:
    """A run that has ended, of these tokens, as an import saves it."""
    config = json_safe(GenerationConfig().to_dict())
    run = store.runs.create(owner, "The same prompt", "fake-model", "dense", config)
    token = json_safe(event_to_dict(make_token(0, " x")))
    rows = [token | {"index": at, "token_id": one} for at, one in enumerate(token_ids)]
    ended = dataclasses.replace(run, status="finished")
    store.runs.delete(run.id)
    return store.runs.restore(ended, rows).id


def test_a_visitors_imports_push_out_their_own_runs_and_nobody_elses(serve: Serve) -> None:
    server = serve(SOL_LIMITS="kept_mb=10")
    store, cap = server.services.store, server.services.storage_cap
    kept = [save_run(store, BEN, [1, 2, 3]) for _ in range(5)]  # the oldest of all
    imported = [save_run(store, ANNA, [0] * 200) for _ in range(50)]
    assert store.used_bytes() > 10 * 1024**2
    cap.enforce()
    assert store.used_bytes() <= 10 * 1024**2
    assert [run.id for run in store.runs.list(owner=BEN, limit=99)] == kept[::-1]
    left = [run.id for run in store.runs.list(owner=ANNA, limit=99)]
    assert left == imported[: -len(left) - 1 : -1]  # the newest stay
    assert store.used_bytes() > 8 * 1024**2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=20), st.integers(0, 99)
)
def test_nobody_loses_a_run_to_somebody_who_keeps_more(
    runs: list[tuple[str, int]], num_bytes: int
) -> None:
    sizes = [RunSize(str(at), owner.encode(), size) for at, (owner, size) in enumerate(runs)]
    chosen = fair_choice(sizes, num_bytes)
    gone = [run for run in sizes if run.id in chosen]
    freed = sum(run.num_bytes for run in gone)
    assert len(gone) == len(chosen) == len(set(chosen))
    assert freed >= min(num_bytes, sum(run.num_bytes for run in sizes))
    for owner in {run.owner for run in gone}:
        mine = [run.id for run in sizes if run.owner == owner]
        lost = [run_id for run_id in chosen if run_id in mine]
        assert lost == mine[: len(lost)]  # oldest first
        last = sizes[int(lost[-1])]
        had = last.num_bytes + sum(
            run.num_bytes for run in sizes if run.owner == owner and run.id not in chosen
        )
        kept = [run for run in sizes if run.id not in chosen and run.owner != owner]
        for other in {run.owner for run in kept}:
            assert had >= sum(run.num_bytes for run in kept if run.owner == other)


def test_a_flood_of_comparisons_leaves_the_others_their_answers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned: list[int] = []

    def counted(*sides: list[int], same_prompt: bool) -> dict[str, Any]:
        aligned.append(len(sides[0]))
        return align_tokens(*sides, same_prompt=same_prompt)

    monkeypatch.setattr(pair_comparison, "align_tokens", counted)
    monkeypatch.setattr(generation_runs, "QUESTION_PATIENCE_S", 60.0)
    server = serve()
    server.engine.pause_at = 1
    ben, carol = server.visitor(BEN), server.visitor(CAROL)
    pair = {
        "a": save_run(server.services.store, ANNA, [0] * LONG),
        "b": save_run(server.services.store, ANNA, [1, 0] * (LONG // 2)),
    }
    running = carol.start("holds the model")
    carol.wait(running, until=lambda view: view["cursor"] == 1)
    visits = [server.visitor(ANNA) for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        calls = [pool.submit(visit.call, "explore", "compare_runs", **pair) for visit in visits]
        wait_until(lambda: sum(call.done() for call in calls) >= 37)  # refused, and not in line
        assert ben.call("history", "list_runs", query="", limit=9) == {"runs": [], "next": None}
        assert ben.poll(ben.start("Ben comes next"))["place"] == 2  # takes turns with Anna
        server.engine.resume.set()
        answers = [call.result(60) for call in calls]
    refused = [answer["refused"] for answer in answers if "refused" in answer]
    assert len(refused) == 37
    assert all("already have 3 runs" in words for words in refused)
    assert aligned == [LONG] * 3
    answer = next(answer for answer in answers if "refused" not in answer)
    assert (answer["parted"], len(answer["sides"])) == (0, 2)
