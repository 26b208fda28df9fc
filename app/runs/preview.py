"""A run's short form for lists: a generation's first words, and a strip of what its steps read.

It is made of the saved tokens when a run that has ended is first listed, and kept with the run:
a list then reads no tokens, whoever made the run and whenever. An inspection's strip is that of
its last schedule, the policy's unless somebody chose otherwise.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any

from sol_core.events import StepCost
from storage import DatabaseCorruptError, RunRecord, RunStore, StorageError, shortened

logger = logging.getLogger(__name__)
MAX_CELLS = 120
MOST_BYTES = 1e15  # of one step; files of other hands may say more than there is
MAX_CHARACTERS = 240  # of the first words, the ellipsis included
PATIENCE_S = 0.5  # of a list, for runs that have no preview yet; the rest have theirs next time
Preview = dict[str, Any]
_Cost = tuple[float, float]  # bytes that a step read, and would read densely


def preview_of(text: str, events: Sequence[dict[str, Any]]) -> Preview:
    """Return a run's first words and its strip.

    Args:
        text: the whole text, of which only the beginning is read.
        events: token events of a generation or an inspection, as JSON.
    Returns: "words", on one line; "share", bytes read in per cent of what dense reads; "cells",
        the same for each token, or for each of ``MAX_CELLS`` equal stretches of a longer run.
        "share" is None and "cells" empty where the tokens do not say what was read.
    """
    costs = [_bytes_read(event) for event in events]
    known = [cost for cost in costs if cost is not None]
    is_known = bool(known) and len(known) == len(costs)
    return {
        "words": first_words(text),
        "share": _per_cent(known) if is_known else None,
        "cells": [_per_cent(part) for part in _stretches(known)] if is_known else [],
    }


def first_words(text: str) -> str:
    """Beginning of a text on one line, at most ``MAX_CHARACTERS`` of it."""
    return shortened(" ".join(text[: 8 * MAX_CHARACTERS].split()), MAX_CHARACTERS)


def previews(store: RunStore, records: Sequence[RunRecord]) -> dict[str, Preview]:
    """Return the previews of those runs that have one, by id; what is missing is made and kept.

    Making ends after ``PATIENCE_S``, at least one preview later.
    """
    found = {record.id: record.preview for record in records if record.preview is not None}
    begin = time.monotonic()
    for record in records:
        if record.id in found or not _can_have_one(record):
            continue
        if (made := _make(store, record)) is not None:
            found[record.id] = made
        if time.monotonic() - begin > PATIENCE_S:
            break
    return found


def _can_have_one(record: RunRecord) -> bool:
    has_ended = record.status != "running" and record.damage is None
    return has_ended and record.num_tokens > 0


def _make(store: RunStore, record: RunRecord) -> Preview | None:
    """Return a run's preview, made now and kept if the database lets us.

    A run of which tokens are damaged gets an empty one, so that nobody reads them again; None
    where the tokens cannot be read now.
    """
    try:
        events = store.events(record.id)
        made = preview_of(_text_of(record, events), events)
    except DatabaseCorruptError:
        made = preview_of("", [])
    except StorageError:
        return None
    try:
        store.keep_preview(record.id, made)
    except StorageError as error:
        logger.warning("the preview of run %s is not kept: %s", record.id, error)
    return made


def _text_of(record: RunRecord, events: Sequence[dict[str, Any]]) -> str:
    """Generated text; nothing of an inspection, whose title says how its text begins."""
    if record.kind == "inspection":
        return ""
    text = (record.summary or {}).get("text")
    if isinstance(text, str):
        return text
    return "".join(str(event.get("text", "")) for event in events[: 8 * MAX_CHARACTERS])


def _bytes_read(event: dict[str, Any]) -> _Cost | None:
    """Bytes that a step read and would read densely; None where they are no such numbers."""
    try:
        if "rows" in event:  # of an inspection: dense is the first
            dense, read = (StepCost(**event["rows"][at]["cost"]).bytes_read for at in (0, -1))
        else:
            read = float(event["cost"]["bytes_read"])
            dense = float(event["dense_cost"]["bytes_read"])
    except (LookupError, OverflowError, TypeError, ValueError):
        return None
    return (read, dense) if 0 <= read <= MOST_BYTES and 1 <= dense <= MOST_BYTES else None


def _stretches(costs: Sequence[_Cost]) -> list[Sequence[_Cost]]:
    count = min(len(costs), MAX_CELLS)
    ends = [len(costs) * cell // count for cell in range(count + 1)]
    return [costs[begin:end] for begin, end in itertools.pairwise(ends)]


def _per_cent(costs: Sequence[_Cost]) -> int:
    read = sum(cost[0] for cost in costs)
    return round(100 * read / sum(cost[1] for cost in costs))
