"""Detect the encoding of a text file.

A byte-order mark decides; without one the file is UTF-8, or Windows-1252 when its
first non-ASCII byte is not UTF-8. Anything else is refused with the place and
the remedy, because text decoded wrongly would train as nonsense without a sign. One
pass in small pieces: about a second for a gigabyte.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sol_core.errors import CorpusError

PIECE_BYTES = 1 << 20
MAX_CONTROL_SHARE = 0.01
# Western text has below a tenth; Cyrillic, Chinese or Japanese read as Windows-1252, most.
MAX_ACCENTED_SHARE = 0.3
_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})
_REMEDY = "convert it with: iconv -f ENCODING -t UTF-8"


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Encoding and length of a text file.

    Attributes:
        encoding: a Python codec name that decodes the whole file.
        num_characters: its length, line ends as they are in the file.
        notice: what the user should know about a guess that was made, or None.
    """

    encoding: str
    num_characters: int
    notice: str | None = None


def inspect_text(path: Path) -> TextFormat:
    """Decode the whole file once and say how.

    Raises: CorpusError when it is empty, binary, damaged, or in an unknown encoding.
    """
    with path.open("rb") as file:
        start = file.read(PIECE_BYTES)
    if not start:
        raise CorpusError(f"{path} is empty")
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return TextFormat(encoding, _count_marked(path, encoding))
    _refuse_binary(path, start)
    return _inspect_unmarked(path)


def _count_marked(path: Path, encoding: str) -> int:
    decoder = codecs.getincrementaldecoder(encoding)()
    num_characters = 0
    try:
        for piece in _pieces(path):
            num_characters += len(decoder.decode(piece))
        return num_characters + len(decoder.decode(b"", final=True))
    except UnicodeError as error:
        raise CorpusError(
            f"{path} starts with the mark of {encoding} but is damaged ({error})"
        ) from error


def _refuse_binary(path: Path, start: bytes) -> None:
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if b"\0" in start or controls > MAX_CONTROL_SHARE * len(start):
        raise CorpusError(
            f"{path} is not a text file: it contains binary data (if it is UTF-16 without "
            f"a byte-order mark, {_REMEDY})"
        )


def _inspect_unmarked(path: Path) -> TextFormat:
    """UTF-8, or Windows-1252 if no valid UTF-8 sequence precedes the first error."""
    num_characters = position = 0
    only_ascii = True
    pending = b""
    for piece in _pieces(path):
        data = pending + piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError as error:
            return _not_utf8(path, position + error.start, only_ascii, data[: error.start])
        num_characters += len(text)
        only_ascii = only_ascii and text.isascii()
        position += used
        pending = data[used:]
    if pending:
        return _not_utf8(path, position, only_ascii, b"")
    return TextFormat("utf-8", num_characters)


def _not_utf8(path: Path, position: int, only_ascii: bool, before: bytes) -> TextFormat:
    if not (only_ascii and before.isascii()):
        raise CorpusError(
            f"{path} is UTF-8 up to byte {position:,} and damaged there: repair that place, "
            f"or if it is in another encoding, {_REMEDY}"
        )
    num_bytes = accented = 0
    for piece in _pieces(path):
        try:
            accented += len(piece.decode("cp1252").encode("ascii", "ignore"))
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path} is neither UTF-8 nor Windows-1252: {_REMEDY}") from error
        num_bytes += len(piece)
    accented = num_bytes - accented
    if accented > MAX_ACCENTED_SHARE * num_bytes:
        raise CorpusError(
            f"{path} is not UTF-8, and {accented / num_bytes:.0%} of its characters would be "
            f"accented letters in Windows-1252: {_REMEDY}"
        )
    notice = (
        f"{path.name} is not UTF-8 (first at byte {position:,}) and was read as Windows-1252; "
        f"if its text looks wrong, {_REMEDY}"
    )
    return TextFormat("cp1252", num_bytes, notice)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
