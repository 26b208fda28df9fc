"""Files that a browser sends in pieces, each with its place; whole only when the last one is there.

The pieces of an upload lie in one hidden file whose name is random, so that a broken connection
leaves nothing that looks finished; forgotten ones go after a day.
"""

from __future__ import annotations

import base64
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.page_calls import Request, RequestError, field

__all__ = ["UploadError", "Uploads", "begin_file", "take_piece"]

_KEEP_FREE_BYTES = 500 * 1024**2
_KEEP_PARTIAL_S = 24 * 3600
MAX_PARTIAL = 16  # unfinished uploads in one folder
_IDLE_S = 600.0  # when there are so many, those that nothing was added to for so long go
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


class UploadError(AppError, ValueError):
    """A file that is too large, or pieces of it that do not fit."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """The unfinished uploads of one folder.

    Attributes:
        what: what is sent, for messages: "A corpus file".
        advice: what to do with one that is too large.
    """

    folder: Path
    max_bytes: int
    what: str
    advice: str

    def begin(self, size: int) -> str:
        """Make room for a file of ``size`` bytes; the answer names the upload.

        Raises: UploadError when the size is not allowed, or the disk is full.
        """
        if not 0 < size <= self.max_bytes:
            raise UploadError(
                f"{self.what} may have 1 byte to {self.max_bytes // 1024**2} MB, this one has "
                f"{size / 1024**2:,.1f} MB. {self.advice}"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (
                self._drop_old_parts(_KEEP_PARTIAL_S)
                >= MAX_PARTIAL
                <= self._drop_old_parts(_IDLE_S)
            ):
                raise UploadError("Many files are being uploaded. Try again in ten minutes.")
            self._check_disk(size)
            upload_id = secrets.token_hex(16)
            self.part(upload_id).touch()
        except OSError as error:
            raise UploadError(f"The file cannot be stored: {error.strerror}.") from error
        return upload_id

    def append(self, upload_id: str, offset: int, data: bytes, size: int) -> int:
        """Add a piece; the answer is how much is there.

        Raises: UploadError for an unknown upload, a piece out of place or too much data.
        """
        part = self.part(upload_id)
        try:
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
        """Where the pieces of an upload lie. Raises: UploadError for what is no upload's name."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadError("upload_id must be 32 hexadecimal digits. Reload the page.")
        return self.folder / f".part-{upload_id}"

    def _check_disk(self, size: int) -> None:
        if shutil.disk_usage(self.folder).free < size + _KEEP_FREE_BYTES:
            raise UploadError("The disk of the data directory is full: free some space.")

    def _drop_old_parts(self, age_s: float) -> int:
        """Delete what nothing was added to for so long; how many there are left."""
        left = 0
        for part in self.folder.glob(".part-*"):
            if time.time() - part.stat().st_mtime > age_s:
                part.unlink(missing_ok=True)
            else:
                left += 1
        return left


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
