"""A comparison of two generations as a document, as rows and as a page, and back.

Its id is theirs with a comma between, as in a link. It holds both whole, so that whoever imports it
has both; the alignment follows from their tokens and is made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from app.formats.csv_cells import csv_text, plain_cell
from app.formats.plain_json import json_safe
from app.host.errors import DocumentError
from app.runs.pairs import align_tokens, recorded_dense_nll
from app.runs.views import whole_view
from app.sharing.html_page import html_page
from app.sharing.kind import Kind, Source
from app.sharing.runs.generation_document import GENERATION
from app.sharing.runs.run_document import ended_run, restored
from sol_core.actions import AXIS_FIELDS, Action, ActionGrid, Budget
from sol_core.comparing.alignment import Stretch
from sol_core.errors import SolError
from sol_core.fields import Rules
from storage import RunRecord, Store

SEPARATOR = ","
_RULES = Rules(partial=frozenset({ActionGrid, Budget}), nullable=frozenset({"dense_nll"}))
_SIDE = (GENERATION.part, GENERATION.tokens, "dense_nll")
_OF_TOKEN = (
    "index",
    "token_id",
    "text",
    *AXIS_FIELDS,
    "surprisal",
    "entropy",
    "kl_to_dense",
    "dense_nll",
)
_COLUMNS = ("stretch", "same", *(f"{side}_{name}" for side in "ab" for name in _OF_TOKEN))


@dataclass(frozen=True, slots=True)
class _Alignment:
    """As ``sol_core.comparing.alignment`` found it; the last two are None for different prompts."""

    same_prompt: bool
    first_divergence: int | None
    stretches: tuple[Stretch, ...] | None


@dataclass(frozen=True, slots=True)
class _Scored:
    """NLL of every token under the dense model, nats; None where it was not known."""

    dense_nll: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class _Side:
    """One generation of the pair, whole."""

    record: RunRecord
    events: list[dict[str, Any]]
    dense_nll: list[float | None] | None


def _split_pair(thing_id: str) -> tuple[str, str] | None:
    """The two runs that a comparison's id names; None for any other id."""
    first, comma, second = thing_id.partition(SEPARATOR)
    return (first, second) if comma and first and second else None


def _document(source: Source, thing_id: str) -> dict[str, Any]:
    """The document, without the envelope. Raises: as ``ended_run``."""
    sides = _sides(source, thing_id)
    aligned = _aligned(sides)
    return {
        "sides": [
            GENERATION.write(source.store, side.record.id) | {"dense_nll": side.dense_nll}
            for side in sides
        ],
        "alignment": {
            "same_prompt": aligned["same_prompt"],
            "first_divergence": aligned["parted"],
            "stretches": aligned["stretches"]
            and [
                {"same": same, "first": [a, a_end], "second": [b, b_end]}
                for same, a, a_end, b, b_end in aligned["stretches"]
            ],
        },
    }


def _csv(source: Source, thing_id: str) -> str:
    """A row per pair of tokens; what stands beside each other in a stretch that differs is chance.

    Columns as in ``docs/formats.md``. Raises: as ``ended_run``.
    """
    return csv_text(_COLUMNS, _rows(_sides(source, thing_id)))


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


def _import(store: Store, owner: str, document: dict[str, Any]) -> str:
    """Check the document, save both runs for ``owner``; returns the new comparison's id.

    Raises: DocumentError naming the first thing that is wrong; then nothing is saved.
    """
    sides = document.get("sides")
    if not isinstance(sides, list) or len(sides) != 2:
        raise DocumentError("sides must be a list of two runs")
    checked = [_checked_side(side, owner, f"sides[{at}]") for at, side in enumerate(sides)]
    restored(_Alignment, document.get("alignment"), "alignment", _RULES)
    first = store.runs.restore(*checked[0]).id
    with ExitStack() as undo:
        undo.callback(store.runs.delete, first)
        second = store.runs.restore(*checked[1]).id
        undo.pop_all()
    return f"{first}{SEPARATOR}{second}"


def _checked_side(side: Any, owner: str, where: str) -> tuple[RunRecord, list[dict[str, Any]]]:
    if not isinstance(side, dict):
        raise DocumentError(f"{where} must be an object")
    if unknown := sorted(side.keys() - set(_SIDE)):
        raise DocumentError(f"{where} has an unknown field {unknown[0][:40]!r}")
    record, events = GENERATION.checked(side, owner, f"{where}.")
    scored = {name: side[name] for name in ("dense_nll",) if name in side}
    nll = restored(_Scored, scored, where, _RULES).dense_nll
    if nll is not None and len(nll) != record.num_tokens:
        raise DocumentError(
            f"{where}.dense_nll must have {record.num_tokens} values, one per token, got {len(nll)}"
        )
    return record, events


def _sides(source: Source, thing_id: str) -> tuple[_Side, _Side]:
    ids = _split_pair(thing_id)
    if ids is None:
        raise DocumentError(f"a comparison's id is two runs' ids with a comma, got {thing_id!r}")
    found = [ended_run(source.store, run_id, GENERATION.kind) for run_id in ids]
    scored: list[list[float | None] | None] = [None, None]
    if source.model is not None:
        # With another model, or a busy one, what the runs measured themselves remains.
        with suppress(SolError):
            scored = source.model.dense_nll(ids)
    first, second = (
        _Side(record, events, nll or recorded_dense_nll(record.config, events))
        for (record, events), nll in zip(found, scored, strict=True)
    )
    return first, second


def _aligned(sides: tuple[_Side, _Side]) -> dict[str, Any]:
    first, second = ([event["token_id"] for event in side.events] for side in sides)
    asked = [(side.record.prompt, bool(side.record.config.get("chat"))) for side in sides]
    return align_tokens(first, second, same_prompt=asked[0] == asked[1])


def _rows(sides: tuple[_Side, _Side]) -> Iterator[dict[str, Any]]:
    ends = [len(side.events) for side in sides]
    stretches = _aligned(sides)["stretches"]
    if stretches is None:  # different prompts: side by side, nothing belongs together
        stretches = [[False, 0, ends[0], 0, ends[1]]]
    for number, (same, a, a_end, b, b_end) in enumerate(stretches, start=1):
        for places in zip_longest(range(a, a_end), range(b, b_end)):
            row = {"stretch": number, "same": same}
            for name, side, place in zip("ab", sides, places, strict=True):
                if place is not None:
                    row |= {f"{name}_{key}": value for key, value in _cells(side, place).items()}
            yield row


def _cells(side: _Side, place: int) -> dict[str, Any]:
    event = side.events[place]
    return asdict(Action(**event["action"])) | {
        "text": plain_cell(event["text"]),
        "dense_nll": side.dense_nll and side.dense_nll[place],
        **{
            name: event[name]
            for name in ("index", "token_id", "surprisal", "entropy", "kl_to_dense")
        },
    }


COMPARISON = Kind(
    "sol-explorer-comparison",
    1,
    address=("compare", "compare"),
    owns=lambda store, thing_id: _split_pair(thing_id) is not None,
    title=lambda store, thing_id: store.runs.get(thing_id.partition(SEPARATOR)[0]).title,
    write=_document,
    texts={"csv": _csv, "html": _page},
    read=_import,
)
