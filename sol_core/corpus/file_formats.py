"""Reads documents and their split from a user's .txt, .jsonl, .csv and .parquet files.

A hash splits the rows of tables. Of ten or more text files, whole files are held out; of fewer,
the last tenth of each. Files are streamed: ``datasets`` takes 0.7 GB of memory for a Parquet file
with 1.1 GB of text, and cannot name the invalid line of JSON.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from sol_core.corpus.documents import (
    HELD_OUT_FRACTION,
    SUPPORTED_SUFFIXES,
    Document,
    split_of,
    text_hash,
)
from sol_core.errors import CorpusError
from sol_core.fields import kind_of
from sol_core.files.paths import whole_characters

PIECE_BYTES = 1 << 20
MAX_CONTROL_FRACTION = 0.01
ENCODING = "utf-8-sig"  # UTF-8, with or without a byte order mark
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})
_REMEDY = "save it as UTF-8, in an editor or with: iconv -f ENCODING -t UTF-8"
DOCUMENT_CHARACTERS = 2_000
MAX_DOCUMENT_CHARACTERS = 8_000  # longer paragraphs are cut at a line end or space
READ_CHARACTERS = 1 << 16
_PARAGRAPH_BORDER = re.compile(r"\n[ \t\r]*\n\s*")
TEXT_COLUMNS = ("text", "content", "document", "passage")
MAX_LINE_CHARACTERS = 64_000_000
PARQUET_BUFFER_BYTES = 1 << 20  # instead of a whole column of a row group
PARQUET_BATCH_ROWS = 500
FILES_TO_SPLIT_WHOLE = 10
ROWS_TO_RANK = 100  # with fewer, a hash threshold could hold out none
MAX_REMEMBERED = 1_000_000  # hashes kept to find duplicates: about 64 MB


def _count_characters(path: Path) -> int:
    """Count a file's characters, without newline translation.

    Raises: CorpusError for a file that is empty, binary, or not UTF-8.
    """
    with path.open("rb") as file:
        start = file.read(PIECE_BYTES)
    if not start:
        raise CorpusError(f"{path} is empty")
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if b"\0" in start or controls > MAX_CONTROL_FRACTION * len(start):
        raise CorpusError(
            f"{path} is not a text file: it contains binary data (if it is UTF-16, {_REMEDY})"
        )
    try:
        with path.open(encoding=ENCODING, newline="") as file:
            return sum(map(len, iter(partial(file.read, PIECE_BYTES), "")))
    except UnicodeError as error:
        raise CorpusError(f"{path} is not UTF-8 ({error}): {_REMEDY}") from error


def read_text_file(path: Path) -> Iterator[tuple[str, float, float]]:
    """Yield the documents in order, each with its start and end in the file (0 to 1)."""
    total, done = max(_count_characters(path), 1), 0
    # newline="" keeps the characters as counted; \r\n becomes \n in each document.
    with path.open(encoding=ENCODING, newline="") as file:
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
                    yield text, start / total, min(done / total, 1.0)


def _find_cut(pending: str, offset: int, at_end: bool) -> int | None:
    """Return the end of the document at ``offset``; None if more text is needed or none is left."""
    available = len(pending) - offset
    if available > MAX_DOCUMENT_CHARACTERS:
        earliest, latest = offset + DOCUMENT_CHARACTERS, offset + MAX_DOCUMENT_CHARACTERS
        if border := _PARAGRAPH_BORDER.search(pending, earliest, latest):
            return border.end()
        for mark in ("\n", " "):
            if (at := pending.rfind(mark, earliest, latest)) >= 0:
                return at + 1
        return latest
    if not at_end:
        return None
    if border := _PARAGRAPH_BORDER.search(pending, offset + DOCUMENT_CHARACTERS):
        return border.end()
    return len(pending) if available else None


def choose_column(available: Sequence[str], wanted: str | None, where: object) -> str:
    """Return the text column: the wanted one, else the first with a known name."""
    if wanted is not None and wanted in available:
        return wanted
    if wanted is None:
        for name in TEXT_COLUMNS:
            if name in available:
                return name
    looked_for = repr(wanted) if wanted is not None else " / ".join(TEXT_COLUMNS)
    raise CorpusError(
        f"{where} has no column {looked_for}; its columns: {', '.join(available) or 'none'}. "
        f"Rename the one with the text to {TEXT_COLUMNS[0]!r}, or give a plain text file"
    )


def _read_json_lines(path: Path) -> Iterator[str]:
    """Yield a text a line, "" for null; skip blank lines."""
    _count_characters(path)
    number, column = 0, None
    with path.open(encoding=ENCODING, newline="\n") as file:
        while line := file.readline(MAX_LINE_CHARACTERS):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == MAX_LINE_CHARACTERS:
                raise CorpusError(
                    f"{where} has over {MAX_LINE_CHARACTERS:,} characters: this is not JSON Lines"
                )
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{where} is not valid JSON: {error}") from error
            if not isinstance(record, dict):
                wanted = 'an object like {"text": "..."}'
                raise CorpusError(f"{where} holds {kind_of(record)}, expected {wanted}")
            column = choose_column(list(record), column, where)
            value = record[column]
            if not isinstance(value, str | None):
                raise CorpusError(f"{where}: {column!r} holds {kind_of(value)}, not text")
            yield whole_characters(value or "")  # JSON may hold lone surrogates


def _read_csv(path: Path) -> Iterator[str]:
    """Yield one text a row of a comma-separated file with a header line."""
    _count_characters(path)
    csv.field_size_limit(MAX_LINE_CHARACTERS)
    with path.open(encoding=ENCODING, newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, [])
            column = header.index(choose_column(header, None, path))
            for row in filter(None, rows):
                if len(row) != len(header):
                    raise csv.Error(f"{len(row)} columns instead of {len(header)}")
                yield row[column]
        except csv.Error as error:
            raise CorpusError(
                f"{path}, line {rows.line_num} is not well-formed CSV: {error}"
            ) from error


def _read_parquet(path: Path) -> Iterator[str]:
    try:
        # pre_buffer would keep all bytes read: 0.6 GB for a 0.6 GB file.
        with pq.ParquetFile(path, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            column = choose_column(file.schema_arrow.names, None, path)
            kind = file.schema_arrow.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise CorpusError(f"column {column!r} of {path} holds {kind}, not text")
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=[column]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except pa.ArrowException as error:
        raise CorpusError(f"{path} is not a readable Parquet file: {error}") from error


# Readers of files with a text a row.
TABLES = {".jsonl": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}


class LocalSource:
    """A local file, or all supported files below a folder."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self.files = _find_files(path)
        self.num_bytes = sum(file.stat().st_size for file in self.files)

    @property
    def signature(self) -> str:
        """Return a text that changes if a file is added, removed or modified."""
        state = [
            (self._name(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files
        ]
        # None replaces a former column, so that earlier releases' caches match.
        return hashlib.sha256(repr((state, None)).encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        """Yield all documents in order, repeated ones once."""
        seen: set[int] = set()
        texts = [file for file in self.files if file.suffix.lower() == ".txt"]
        tables = [file for file in self.files if file.suffix.lower() != ".txt"]
        for document in chain(self._text_documents(texts), self._rows(tables)):
            identity = text_hash(document[0])
            if identity not in seen:
                if len(seen) < MAX_REMEMBERED:
                    seen.add(identity)
                yield document

    def _text_documents(self, files: list[Path]) -> Iterator[Document]:
        ranked = sorted(files, key=lambda file: text_hash(self._name(file)))
        whole = len(files) >= FILES_TO_SPLIT_WHOLE
        held_out = set(ranked[: round(len(files) * HELD_OUT_FRACTION)]) if whole else set()
        for file in files:
            for text, start, stop in read_text_file(file):
                in_tail = stop > 1 - HELD_OUT_FRACTION and start > 0
                is_held_out = file in held_out if whole else in_tail
                yield text, "held_out" if is_held_out else "train"

    def _rows(self, files: list[Path]) -> Iterator[Document]:
        texts = (text.strip() for file in files for text in TABLES[file.suffix.lower()](file))
        rows = filter(None, texts)
        first = list(islice(rows, ROWS_TO_RANK))
        if len(first) < ROWS_TO_RANK:
            yield from _ranked(first)
            return
        for text in chain(first, rows):
            yield text, split_of(text_hash(text))

    def _name(self, file: Path) -> str:
        return file.name if file == self._root else file.relative_to(self._root).as_posix()


def _ranked(texts: list[str]) -> Iterator[Document]:
    """Hold out the tenth with the lowest hashes, at least one of two distinct texts."""
    hashes = sorted({text_hash(text) for text in texts})
    count = max(1, round(len(hashes) * HELD_OUT_FRACTION)) if len(hashes) > 1 else 0
    held_out = set(hashes[:count])
    for text in texts:
        yield text, "held_out" if text_hash(text) in held_out else "train"


def _find_files(path: Path) -> list[Path]:
    supported = ", ".join(SUPPORTED_SUFFIXES)
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in SUPPORTED_SUFFIXES
            and file.is_file()
            and file.stat().st_size > 0
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not files:
            raise CorpusError(f"the folder {path} holds no {supported} file with content")
        return files
    if not path.exists():
        raise CorpusError(f"there is no file {path}")
    if not path.is_file():  # opening a pipe may block; files are read twice
        raise CorpusError(
            f"{path} is a pipe, a device or a socket, not a file: write the text to a file, one of "
            f"{supported}, and give its path"
        )
    if path.suffix.lower() not in SUPPORTED_SUFFIXES:
        raise CorpusError(f"{path} is of no supported kind; supported: {supported}")
    return [path]
