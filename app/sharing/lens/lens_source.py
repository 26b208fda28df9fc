"""A look into a run, by its id: one that came in a file, else what the loaded model sees now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from app.host.errors import AppError, DocumentError
from app.lens.report import Look
from app.sharing.kind import Source
from app.sharing.runs.run_document import ended_run
from storage import RunRecord, Store

_ID = re.compile(r"([\w-]+):(\d{1,9}):(\d{0,3}):(\d{0,3})")


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A run, and one look into it.

    Attributes:
        index: of the token in the run.
        row: of an inspection, which schedule's; None for a generation.
        look: what the model found.
    """

    record: RunRecord
    events: list[dict[str, Any]]
    index: int
    row: int | None
    look: Look

    @property
    def policy(self) -> list[list[float | None]] | None:
        """The policy's probability of every level per axis; None for other schedules."""
        event = self.events[self.index]
        found = event.get("policy") if self.row is None else event["rows"][self.row]["policy"]
        return found or None

    def probability(self, axis: int, level: int) -> float | None:
        """Return the policy's probability of a level, by the level's place."""
        policy = self.policy
        if policy is None or axis >= len(policy) or level >= len(policy[axis]):
            return None
        return policy[axis][level]


def lens_id(run_id: str, index: int, row: int | None, bit_width: int | None) -> str:
    """RUN:TOKEN:ROW:BITS; what is None stays empty."""
    return ":".join("" if part is None else str(part) for part in (run_id, index, row, bit_width))


def is_lens_id(thing_id: str) -> bool:
    """Return whether this is RUN:TOKEN:ROW:BITS; ROW and BITS may be empty."""
    return _ID.fullmatch(thing_id) is not None


def title_of_lens(store: Store, thing_id: str) -> str:
    """The run's title and the token's number as the page counts it. Raises: NotFoundError."""
    run_id, index, _, _ = _parts(thing_id)
    return f"token {index + 1} of {store.runs.get(run_id).title}"


def looked_at(source: Source, thing_id: str) -> LookedAt:
    """The look that an id names.

    Raises: NotFoundError; AppError without a model, or while the run goes on; SolError.
    """
    run_id, index, row, bits = _parts(thing_id)
    record, events = ended_run(source.store, run_id, "generation" if row is None else "inspection")
    imported = source.store.looks.find(run_id, index, row)
    if imported is not None:
        return LookedAt(record, events, index, row, Look(**imported).at(bits))
    if source.model is None:
        raise AppError(
            "A lens needs its model: export it on the page, where it is open, or look into a text "
            "with: python launch.py lens FILE --token I --json"
        )
    return LookedAt(record, events, index, row, source.model.look(run_id, index, row, bits))


def _parts(thing_id: str) -> tuple[str, int, int | None, int | None]:
    found = _ID.fullmatch(thing_id)
    if found is None:
        raise DocumentError(f"a lens's id is RUN:TOKEN:ROW:BITS, got {thing_id[:60]!r}")
    run_id, index, row, bits = found.groups()
    return run_id, int(index), int(row) if row else None, int(bits) if bits else None
