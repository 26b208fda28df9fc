"""Notes on a stored policy beyond its own files: tags, and former names.

Kept as notes.json in the policy's folder, so that it moves and goes with the policy. It is not
exported. Without the file, or with a damaged one, a policy simply has no notes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from sol_core.files.places import read_regular
from sol_core.files.staging import publish

NOTES_FILE = "notes.json"
MAX_NOTES_BYTES = 1_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FormerName:
    """Former name of a policy here, valid until a moment (ISO 8601)."""

    name: str
    until: str


@dataclass(frozen=True, slots=True)
class PolicyNotes:
    """Notes on one policy.

    Attributes:
        tags: the user's own, sorted.
        former_names: newest first; jobs and runs may still name these.
        added: when it was imported, ISO 8601; "" for one that was trained here.
        job: the training job that made it here, by its id; "" for any other.
    """

    tags: tuple[str, ...] = ()
    former_names: tuple[FormerName, ...] = ()
    added: str = ""
    job: str = ""


def read_notes(folder: Path) -> PolicyNotes:
    """The notes of a policy folder."""
    try:
        record = json.loads(read_regular(folder / NOTES_FILE, MAX_NOTES_BYTES))
        former = tuple(FormerName(**entry) for entry in record["former_names"])
        added, job = str(record["added"]), str(record.get("job", ""))
        return PolicyNotes(tuple(map(str, record["tags"])), former, added, job)
    except FileNotFoundError:
        return PolicyNotes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("the notes in %s are left out: %s", folder, error)
        return PolicyNotes()


def write_notes(folder: Path, notes: PolicyNotes) -> None:
    """Replace the notes in one rename that a power cut leaves whole. Raises: OSError."""
    staged = folder / f".{NOTES_FILE}.new"
    staged.write_text(json.dumps(asdict(notes), indent=1) + "\n", "utf-8")
    publish(staged, folder / NOTES_FILE, folder)
