"""Packs a policy folder into a zip and reads it back, file by file; keeps a policy's notes."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from sol_core.errors import PolicyError
from sol_core.fields import from_json
from sol_core.files.paths import read_regular
from sol_core.files.staging import publish
from sol_core.policy.info import CARD_FILE, CONFIG_FILE, MAX_BYTES, WEIGHTS_FILE

NOTES_FILE = "notes.json"
MAX_NOTES_BYTES = 1_000_000
logger = logging.getLogger(__name__)
MAX_ZIP_BYTES = sum(MAX_BYTES.values())
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest time: equal policies make equal bytes
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The last two: an encrypted entry, and an entry's name that is wrongly marked as UTF-8.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, UnicodeDecodeError)
_KINDS = f"{CONFIG_FILE}, {WEIGHTS_FILE} and {CARD_FILE}"


@dataclass(frozen=True, slots=True)
class FormerName:
    """A former name of a stored policy, used until a moment (ISO 8601)."""

    name: str
    until: str


@dataclass(frozen=True, slots=True)
class PolicyNotes:
    """Notes on a policy, kept beside its files and never exported."""

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"tags": list}

    former_names: tuple[FormerName, ...] = ()  # newest first; jobs and runs may still use them
    added: str = ""  # import time, ISO 8601; "" if trained here
    job: str = ""  # id of the training job that made it here, else ""


def read_notes(folder: Path) -> PolicyNotes:
    """Read a policy's notes; return empty ones if they are missing or damaged."""
    try:
        return from_json(
            PolicyNotes, json.loads(read_regular(folder / NOTES_FILE, MAX_NOTES_BYTES))
        )
    except FileNotFoundError:
        return PolicyNotes()
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("the notes in %s are left out: %s", folder, error)
        return PolicyNotes()


def write_notes(folder: Path, notes: PolicyNotes) -> None:
    """Replace the notes atomically. Raises: OSError."""
    staged = folder / f".{NOTES_FILE}.new"
    staged.write_text(json.dumps(asdict(notes), indent=1) + "\n", "utf-8")
    publish(staged, folder / NOTES_FILE, folder)


def pack_policy(folder: Path, target: Path) -> None:
    """Write the policy's files into a new zip. Raises: OSError."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MAX_BYTES:
            if (folder / name).is_file():
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, (folder / name).read_bytes())


def copy_policy(source: Path, target: Path) -> None:
    """Copy the policy's files, and no others, into the existing folder ``target``."""
    for name, limit in MAX_BYTES.items():
        path = source / name
        if name == CARD_FILE and not path.exists():
            continue
        if path.is_symlink() or not path.is_file():
            raise PolicyError(f"{source} holds no {name}: a policy folder has {_KINDS}")
        if path.stat().st_size > limit:
            raise _too_large(str(path), limit)
        shutil.copyfile(path, target / name)


def unpack_policy(source: Path, target: Path) -> None:
    """Read a zip's policy into the existing folder ``target``."""
    try:
        with zipfile.ZipFile(source) as archive:
            for name, entry in _entries(archive, source).items():
                _extract(archive, entry, target / name, MAX_BYTES[name])
    except _UNREADABLE as error:
        raise PolicyError(f"{source.name} is no zip, or is damaged: {error}") from error


def _entries(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """Find the entry of each policy file, in any folder of the zip; ignore other entries."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = PurePosixPath(entry.filename).name
        if name not in MAX_BYTES or entry.is_dir():
            continue
        if name in entries:
            raise PolicyError(f"{source.name} holds {name} twice")
        if entry.compress_type not in _COMPRESSIONS:
            raise PolicyError(f"{source.name}: {name} is compressed in a way that is not read")
        entries[name] = entry
    if missing := {CONFIG_FILE, WEIGHTS_FILE} - entries.keys():
        raise PolicyError(f"{source.name} lacks {min(missing)}: a policy has {_KINDS}")
    return entries


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, limit: int) -> None:
    """Extract one entry, counting the bytes read: its header may understate the size."""
    if entry.file_size > limit:
        raise _too_large(entry.filename, limit)
    with archive.open(entry) as packed:
        content = packed.read(limit + 1)
    if len(content) > limit:
        raise _too_large(entry.filename, limit)
    target.write_bytes(content)


def _too_large(name: str, limit: int) -> PolicyError:
    return PolicyError(f"{name} has more than {limit / 1e6:g} MB, the most that is read")
