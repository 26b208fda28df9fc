"""Visitors that generate at the same time, and what they saw of their tokens.

Each polls as the page does, every 80 ms with a cursor, and reads its run again from the
database when it has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.load.page_client import PageClient, RefusedError

POLL_S = 0.08  # run.js
STORED_WAIT_S = 20.0
Token = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visitor saw."""

    run_id: str
    status: str
    seen: tuple[Token, ...]
    announced: int
    stored: tuple[Token, ...]
    waited_s: float
    waits_ms: tuple[float, ...]


def wait_for_model(client: PageClient, seconds: float) -> None:
    """Return once the model is loaded. Raises: RefusedError."""
    gives_up_at = time.monotonic() + seconds
    while (model := client.ask("explore", "home")["model"])["state"] != "ready":
        if model["state"] == "failed" or time.monotonic() > gives_up_at:
            raise RefusedError(f"the model is not ready: {model}")
        time.sleep(0.2)


def run_visitors(url: str, count: int, settings: dict[str, Any]) -> list[Visit]:
    """Let ``count`` visitors generate at once. Raises: what one of them met."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: _visit(url, number, settings), range(count)))


def visit_problems(visits: Sequence[Visit]) -> list[str]:
    """A sentence for everything that was lost, doubled or changed."""
    found = []
    for visit in visits:
        indices = [index for index, _ in visit.seen]
        if indices != list(range(visit.announced)):
            found.append(f"run {visit.run_id}: of {visit.announced} tokens {indices} were seen")
        if visit.stored != visit.seen:
            found.append(f"run {visit.run_id}: {len(visit.stored)} tokens are stored otherwise")
        if visit.status != "finished":
            found.append(f"run {visit.run_id} ended as {visit.status}")
    return found


def turn_problems(ended: Sequence[str], order: Sequence[str]) -> list[str]:
    """A sentence for every run that ended out of turn.

    Args:
        ended: ids of the runs by the time that the database has for their ends: a visitor on a
            busy machine hears of an end late.
        order: the same as they were put in line.
    """
    found = []
    for place, run_id in enumerate(order):
        # Two runs that end within one save may be written in either order.
        if abs(ended.index(run_id) - place) > 1:
            found.append(f"run {run_id} was number {place} in line, {ended.index(run_id)} to end")
    return found


def _visit(url: str, number: int, settings: dict[str, Any]) -> Visit:
    with PageClient(url) as client:
        client.open()
        client.ask("explore", "home")
        prompt = f"Visitor {number} asks: what is the sea like in winter?"
        started = client.ask("explore", "start_run", prompt=prompt, settings=settings)
        run_id, began_at = str(started["run_id"]), time.monotonic()
        seen: list[Token] = []
        first_row_at, cursor = began_at, 0
        while True:
            view = client.ask("explore", "poll_run", run_id=run_id, cursor=cursor)
            cursor = view["cursor"]
            first_row_at = first_row_at if seen else time.monotonic()
            seen += [(row["index"], row["text"]) for row in view["rows"]]
            if not view["live"] and not view["more"]:
                break
            time.sleep(0 if view["more"] else POLL_S)
        return Visit(
            run_id=run_id,
            status=view["status"],
            seen=tuple(seen),
            announced=int((view["summary"] or {}).get("num_tokens", -1)),
            waited_s=first_row_at - began_at,
            waits_ms=tuple(client.waits_ms),
            stored=_stored(client, run_id),
        )


def _stored(client: PageClient, run_id: str) -> tuple[Token, ...]:
    """The tokens that the database has, once the run has been saved whole."""
    gives_up_at = time.monotonic() + STORED_WAIT_S
    while True:
        try:
            made = client.ask("explore", "export_file", kind="run", id=run_id, form="json")
            events = json.loads(made["text"])["events"]
            return tuple((event["index"], event["text"]) for event in events)
        except RefusedError:  # it is saved every half second
            if time.monotonic() > gives_up_at:
                raise
            time.sleep(0.2)
