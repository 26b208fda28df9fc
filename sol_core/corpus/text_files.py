"""Cut a plain text file into documents of about 2,000 characters at paragraph borders.

The file is read in small pieces, so its size does not matter. Every document knows which
stretch of the file it is, so that a single book can be split by position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sol_core.corpus.encoding import TextFormat

DOCUMENT_CHARACTERS = 2_000
MAX_DOCUMENT_CHARACTERS = 8_000  # a longer paragraph is cut at a line end or a space
READ_CHARACTERS = 1 << 16
_PARAGRAPH_BORDER = re.compile(r"\n[ \t\r]*\n\s*")


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A text as its file has it, and the stretch of the file it covers (0 to 1)."""

    text: str
    start: float
    stop: float


def read_text_file(path: Path, text_format: TextFormat) -> Iterator[RawDocument]:
    """Yield the file's documents in order; white space alone is not a document."""
    total = max(text_format.num_characters, 1)
    done = 0
    # newline="" keeps the characters as counted; \r\n becomes \n in each document.
    with path.open(encoding=text_format.encoding, newline="") as file:
        pending, offset, at_end = "", 0, False
        while not at_end:
            piece = file.read(READ_CHARACTERS)
            at_end = not piece
            pending, offset = pending[offset:] + piece, 0
            while (cut := _find_cut(pending, offset, at_end)) is not None:
                text = pending[offset:cut].replace("\r\n", "\n").replace("\r", "\n").strip()
                start, done = done, done + cut - offset
                offset = cut
                if text:
                    yield RawDocument(text, start / total, min(done / total, 1.0))


def _find_cut(pending: str, offset: int, at_end: bool) -> int | None:
    """Return the end of the document that begins at ``offset``; None: read on (or nothing left)."""
    available = len(pending) - offset
    if available > MAX_DOCUMENT_CHARACTERS:
        earliest, latest = offset + DOCUMENT_CHARACTERS, offset + MAX_DOCUMENT_CHARACTERS
        if border := _PARAGRAPH_BORDER.search(pending, earliest, latest):
            return border.end()
        for mark in ("\n", " "):
            if (place := pending.rfind(mark, earliest, latest)) >= 0:
                return place + 1
        return latest
    if not at_end:
        return None
    if border := _PARAGRAPH_BORDER.search(pending, offset + DOCUMENT_CHARACTERS):
        return border.end()
    return len(pending) if available else None
