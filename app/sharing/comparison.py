"""A comparison of two generations as a page. Its id is theirs with a comma, as in a link."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.formats.plain_json import json_safe
from app.host.errors import DocumentError
from app.runs.views import whole_view
from app.sharing.html_page import html_page
from app.sharing.kind import Kind, Source
from app.sharing.runs.generation_document import GENERATION
from app.sharing.runs.run_document import ended_run
from sol_core.comparing.alignment import align, first_divergence
from sol_core.errors import SolError
from storage import RunRecord

SEPARATOR = ","


@dataclass(frozen=True, slots=True)
class _Side:
    """One generation of the pair, whole."""

    record: RunRecord
    events: list[dict[str, Any]]
    dense_nll: list[float | None] | None


def align_tokens(
    first: Sequence[int], second: Sequence[int], *, same_prompt: bool
) -> dict[str, Any]:
    """Return the alignment of two token lists.

    Returns: "same_prompt"; "parted", the first token that differs (None where none does), and
        "stretches" [same, first start, stop, second start, stop]; both None for different prompts.
    """
    answer: dict[str, Any] = {"same_prompt": same_prompt, "parted": None, "stretches": None}
    if same_prompt:
        answer["parted"] = first_divergence(first, second)
        answer["stretches"] = [
            [stretch.same, *stretch.first, *stretch.second] for stretch in align(first, second)
        ]
    return answer


def _recorded_dense_nll(
    config: dict[str, Any], events: Sequence[dict[str, Any]]
) -> list[float | None] | None:
    """NLL of every token under the dense model, nats, where the generation itself measured it.

    Args:
        config: of the generation, as JSON.
        events: its token events, as JSON.
    Returns: None where neither the generation nor a row beside it was dense.
    """
    if not events:
        return None
    if config.get("schedule", {}).get("kind") == "dense":
        return [event["surprisal"] for event in events]
    dense = {
        row["name"] for row in config.get("side_rows", []) if row["schedule"]["kind"] == "dense"
    }
    values = [
        next((side["surprisal"] for side in event["side"] if side["name"] in dense), None)
        for event in events
    ]
    return values if any(value is not None for value in values) else None


def _split_pair(thing_id: str) -> tuple[str, str] | None:
    """The two runs that a comparison's id names; None for any other id."""
    first, comma, second = thing_id.partition(SEPARATOR)
    return (first, second) if comma and first and second else None


def _page(source: Source, thing_id: str) -> str:
    """Return Compare's view of the pair. Raises: as ``ended_run``."""
    sides = _sides(source, thing_id)
    problem = "no dense pass over this text is in the file."
    scored: list[dict[str, Any]] = [
        {"nll": None, "problem": problem}
        if side.dense_nll is None
        else {"nll": json_safe(side.dense_nll), "problem": None}
        for side in sides
    ]
    compared = _aligned(sides) | {"sides": scored}
    views = [whole_view(side.record, side.events) for side in sides]
    view = {"views": views, "compared": compared}
    return html_page(views[0]["run"]["title"], view, "shared_comparison", ("evaluate", "compare"))


def _sides(source: Source, thing_id: str) -> tuple[_Side, _Side]:
    ids = _split_pair(thing_id)
    if ids is None:
        raise DocumentError(f"a comparison's id is two runs' ids with a comma, got {thing_id!r}")
    runs = [ended_run(source.store, run_id, GENERATION.kind) for run_id in ids]
    scored: list[list[float | None] | None] = [None, None]
    if source.model is not None:
        # With another model, or a busy one, what the runs measured themselves remains.
        with suppress(SolError):
            scored = source.model.dense_nll(ids)
    first, second = (
        _Side(record, events, nll or _recorded_dense_nll(record.config, events))
        for (record, events), nll in zip(runs, scored, strict=True)
    )
    return first, second


def _aligned(sides: tuple[_Side, _Side]) -> dict[str, Any]:
    first, second = ([event["token_id"] for event in side.events] for side in sides)
    asked = [(side.record.prompt, bool(side.record.config.get("chat"))) for side in sides]
    return align_tokens(first, second, same_prompt=asked[0] == asked[1])


COMPARISON = Kind(
    address=("compare", "compare"),
    owns=lambda store, thing_id: _split_pair(thing_id) is not None,
    title=lambda store, thing_id: store.runs.get(thing_id.partition(SEPARATOR)[0]).title,
    texts={"html": _page},
)
