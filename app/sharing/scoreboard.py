"""The scoreboard of *Beat the policy* as a document and as rows: who painted what, and how close
to the dense model it came, beside policy, static, random and dense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.challenges.desk import actions_of, beats_policy, mean, spend_of
from app.formats.csv_cells import csv_text, plain_cell
from app.formats.plain_json import iso, json_safe
from app.sharing.kind import Kind, Source
from sol_core.actions import AXIS_FIELDS, Budget, record_of
from storage import AttemptRecord, Store, title_of

NO_IMPORT = "a scoreboard is not imported: set its text up on Compare, and score schedules there"
MOST_ATTEMPTS = 10_000
_OF_CHALLENGE = ("text", "model", "dtype", "policy", "steps", "num_random", "grid")
_COLUMNS = ("schedule", "place", "name", "kl", "nll", "beats_policy", *AXIS_FIELDS, "created_at")


def _title(store: Store, thing_id: str) -> str:
    """The beginning of the challenge's text. Raises: NotFoundError."""
    return title_of(str(store.challenges.get(thing_id).record["text"]))


def _document(source: Source, thing_id: str) -> dict[str, Any]:
    """The document, without the envelope. Raises: NotFoundError."""
    challenge = source.store.challenges.get(thing_id)
    record = challenge.record
    about: dict[str, Any] = {"id": challenge.id}
    about |= {"created_at": challenge.created_at.isoformat()}
    about |= {name: record[name] for name in _OF_CHALLENGE}
    about |= {"budget": record_of(Budget(*record["asked"]))}
    scores = {name: _score(score) for name, score in record["scores"].items()}
    attempts = [
        _attempt(place, one) | {"actions": _named(one.schedule)}
        for place, one in enumerate(_attempts(source.store, thing_id), start=1)
    ]
    return dict(json_safe({"challenge": about | {"scores": scores}, "attempts": attempts}))


def _csv(source: Source, thing_id: str) -> str:
    """A row per attempt, best first, then one per other schedule; see ``docs/formats.md``.

    Raises: NotFoundError.
    """
    return csv_text(_COLUMNS, map(json_safe, _rows(source.store, thing_id)))


def _rows(store: Store, thing_id: str) -> Iterator[dict[str, Any]]:
    scores = store.challenges.get(thing_id).record["scores"]
    for place, attempt in enumerate(_attempts(store, thing_id), start=1):
        row = _attempt(place, attempt)
        yield row | {"schedule": "painted", "name": plain_cell(attempt.name)}
    for name, score in scores.items():
        yield {"schedule": name} | {
            key: value for key, value in _score(score).items() if key in _COLUMNS
        }


def _attempts(store: Store, thing_id: str) -> list[AttemptRecord]:
    return store.challenges.best(thing_id, MOST_ATTEMPTS)


def _attempt(place: int, attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "place": place,
        "name": attempt.name,
        "kl": attempt.kl,
        "nll": attempt.nll,
        "beats_policy": beats_policy(attempt, "kl"),
        **_spend(attempt.schedule),
        "created_at": iso(attempt.created_at),
    }


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    means = {name: mean(score[name]) for name in ("kl", "nll")}
    return means | _spend(score) | {"actions": _named(score)}


def _spend(schedule: Mapping[str, Any]) -> dict[str, float]:
    """Mean over the tokens, by axis."""
    return dict(zip(AXIS_FIELDS, spend_of(schedule), strict=True))


def _named(schedule: Mapping[str, Any]) -> list[dict[str, float]]:
    return [record_of(action) for action in actions_of(schedule)]


SCOREBOARD = Kind(
    "sol-explorer-scoreboard",
    1,
    address=("challenge", "compare"),
    owns=lambda store, thing_id: store.challenges.find(thing_id) is not None,
    title=_title,
    write=_document,
    texts={"csv": _csv},
    read=NO_IMPORT,
)
