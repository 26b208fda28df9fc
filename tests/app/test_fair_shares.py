"""What one visitor of a public server cannot take from the others."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app import generation_runs, pair_comparison
from app.run_pairs import align_tokens
from app.views import json_safe
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from storage import Store
from tests.app.public_server import ANNA, BEN, Serve
from tests.app.waiting import wait_until
from tests.fake_engine import make_token

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
        calls = [pool.submit(visit.call, "compare", "compare_runs", **pair) for visit in visits]
        wait_until(lambda: sum(call.done() for call in calls) >= 37)  # refused, and not in line
        assert ben.call("history", "list_runs", query="", limit=9) == {"runs": [], "next": None}
        assert ben.poll(ben.start("Ben comes next"))["place"] == 4
        server.engine.resume.set()
        answers = [call.result(60) for call in calls]
    refused = [answer["refused"] for answer in answers if "refused" in answer]
    assert len(refused) == 37
    assert all("at most 3 are allowed" in words for words in refused)
    assert aligned == [LONG] * 3
    answer = next(answer for answer in answers if "refused" not in answer)
    assert (answer["parted"], len(answer["sides"])) == (0, 2)
