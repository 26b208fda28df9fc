"""Files that a browser sends in pieces, each with its place; whole only when the last one is there.

The pieces of an upload lie in one hidden file whose name says whose it is and is random otherwise,
so that a broken connection leaves nothing that looks finished. Where room is needed, uploads that
stand still go first; forgotten ones go after a day.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.host.errors import AppError
from app.host.limits import Shares
from app.host.visitor import address
from app.web.calls import Request, RequestError, field

_KEEP_FREE_BYTES = 500 * 1024**2
_KEEP_PARTIAL_S = 24 * 3600
SHARES = Shares("uploads going on", of_visitor=4, of_address=16, of_all=32)  # in one folder
IDLE_S = 60.0  # when there are so many, those that nothing was added to for so long go
_UPLOAD_ID = re.compile(r"[0-9a-f]{40}")
NETWORK_DIGITS = 8  # of those of an id
_changing = threading.Lock()  # one piece or one beginning at a time; each takes milliseconds


class UploadError(AppError, ValueError):
    """A file that is too large, or pieces of it that do not fit."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """A visitor's unfinished uploads, among those of one folder.

    Attributes:
        owner: the visitor's id; nobody else's pieces are added.
        what: what is sent, for messages: "A corpus file".
        advice: what to do with one that is too large.
    """

    folder: Path
    owner: str
    max_bytes: int
    what: str
    advice: str

    def begin(self, size: int) -> str:
        """Make room for a file of ``size`` bytes; the answer names the upload.

        Raises: UploadError when the size is not allowed, the disk is full, or there are too many
            uploads that go on.
        """
        if not 0 < size <= self.max_bytes:
            raise UploadError(
                f"{self.what} may have 1 byte to {self.max_bytes // 1024**2} MB, this one has "
                f"{size / 1024**2:,.1f} MB. {self.advice}"
            )
        try:
            with _changing:
                self.folder.mkdir(parents=True, exist_ok=True)
                network = _network()
                self._make_room(network)
                self._check_disk(size)
                upload_id = network + secrets.token_hex(16)
                self.part(upload_id).touch()
        except OSError as error:
            raise UploadError(f"The file cannot be stored: {error.strerror}.") from error
        return upload_id

    def append(self, upload_id: str, offset: int, data: bytes, size: int) -> int:
        """Add a piece; the answer is how much is there. The same piece again does not fit.

        Raises: UploadError for an unknown upload, a piece out of place or too much data.
        """
        part = self.part(upload_id)
        if not data:
            raise UploadError("A piece must have at least 1 byte. Upload the file again.")
        try:
            with _changing:
                have = part.stat().st_size
                if offset != have or have + len(data) > min(size, self.max_bytes):
                    raise UploadError(f"The upload has {have} bytes; a piece at {offset} does not "
                                      "fit. Upload the file again.")  # fmt: skip
                self._check_disk(len(data))
                with part.open("ab") as file:
                    file.write(data)
        except FileNotFoundError as error:
            raise UploadError("This upload is gone. Upload the file again.") from error
        except OSError as error:
            raise UploadError(f"The file cannot be stored: {error.strerror}.") from error
        return have + len(data)

    def part(self, upload_id: str) -> Path:
        """Return the file of an upload's pieces. Raises: UploadError for no upload's name."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadError("upload_id must be 40 hexadecimal digits. Reload the page.")
        return self.folder / f".part-{self.owner}-{upload_id}"

    def _check_disk(self, size: int) -> None:
        if shutil.disk_usage(self.folder).free < size + _KEEP_FREE_BYTES:
            raise UploadError("The disk of the data directory is full: free some space.")

    def _make_room(self, network: str) -> None:
        """Delete what was forgotten and, where all places are taken, what stands still longest.

        Raises: UploadError when too many uploads go on.
        """
        for part in self.folder.glob(".part-*"):
            if _idle_s(part) > _KEEP_PARTIAL_S:
                part.unlink(missing_ok=True)
        while True:
            parts = [_Part.of(path) for path in self.folder.glob(".part-*")]
            excess = SHARES.excess(parts, self.owner, network)
            if excess is None:
                return
            sentence, counted = excess
            idlest = max(counted, key=lambda part: _idle_s(part.path)).path
            if _idle_s(idlest) <= IDLE_S:
                raise UploadError(sentence)
            idlest.unlink(missing_ok=True)


class _Part(NamedTuple):
    """An unfinished upload; ``address`` stands for its visitor's."""

    owner: str
    address: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> _Part:
        before, _, upload_id = path.name.rpartition("-")
        return cls(before.removeprefix(".part-"), upload_id[:NETWORK_DIGITS], path)


def _idle_s(part: Path) -> float:
    """Seconds since something was added; without end for what is gone meanwhile."""
    try:
        return time.time() - part.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _network() -> str:
    """Hexadecimal digits for the visitor's network address, of which a visitor has few."""
    return hashlib.sha256((address() or "").encode()).hexdigest()[:NETWORK_DIGITS]


def begin_file(uploads: Uploads, request: Request) -> dict[str, Any]:
    """The answer to a page that announces a file of "size" bytes."""
    return {"upload_id": uploads.begin(field(request, "size", int))}


def take_piece(uploads: Uploads, request: Request) -> tuple[int, Path | None]:
    """One piece as base64: how much is there, and where the file is once it is whole."""
    upload_id, size = field(request, "upload_id", str), field(request, "size", int)
    try:
        data = base64.b64decode(field(request, "data", str), validate=True)
    except ValueError as error:
        raise RequestError("data must be base64. Upload the file again.") from error
    have = uploads.append(upload_id, field(request, "offset", int), data, size)
    return have, uploads.part(upload_id) if have == size else None
