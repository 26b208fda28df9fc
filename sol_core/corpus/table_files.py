"""Read documents from .jsonl, .csv and .parquet files: one row is one document.

Our own readers rather than ``datasets``' builders: those hold a growing share of a large
Parquet file in memory (0.7 GB more for 1.1 GB of text, where these stay flat), load a
whole JSON file when a line is wrong, and cannot say which line it was.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from sol_core.corpus.encoding import TextFormat
from sol_core.corpus.text_files import RawDocument
from sol_core.errors import CorpusError
from sol_core.files.characters import whole_characters

TEXT_COLUMNS = ("text", "content", "document", "passage")
MAX_LINE_CHARACTERS = 64_000_000
CSV_BLOCK_BYTES = 2 << 20  # pyarrow reads 32 of them ahead; a row may not be longer
PARQUET_BUFFER_BYTES = 1 << 20  # instead of a whole column of a row group
PARQUET_BATCH_ROWS = 500


def choose_column(available: Sequence[str], wanted: str | None, where: object) -> str:
    """The column that holds the text: the wanted one, else the first known name."""
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


def read_json_lines(path: Path, text_format: TextFormat) -> Iterator[RawDocument]:
    """Yield one document a line; blank lines and null texts are skipped."""
    total = max(text_format.num_characters, 1)
    done = number = 0
    column: str | None = None
    with path.open(encoding=text_format.encoding, newline="\n") as file:
        while line := file.readline(MAX_LINE_CHARACTERS):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == MAX_LINE_CHARACTERS:
                raise CorpusError(
                    f"{where} has over {MAX_LINE_CHARACTERS:,} characters: this is not JSON Lines"
                )
            start, done = done, done + len(line)
            if line.strip():
                record = _parse_line(line, where)
                column = choose_column(list(record), column, where)
                if text := _text_of(record[column], column, where):
                    yield RawDocument(text, start / total, min(done / total, 1.0))


def read_csv(path: Path, text_format: TextFormat) -> Iterator[RawDocument]:
    """Yield one document a row of a comma-separated file with a header line."""
    column = choose_column(_csv_header(path, text_format), None, path)
    encoding = "utf-8" if text_format.encoding == "utf-8-sig" else text_format.encoding
    read = 0
    try:
        reader = pa_csv.open_csv(
            path,
            # One thread, or pyarrow's errors do not give the row.
            pa_csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES, encoding=encoding),
            pa_csv.ParseOptions(newlines_in_values=True),
            pa_csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()}),
        )
        for batch in reader:
            for text in batch.column(0).to_pylist():
                start = min(read / text_format.num_characters, 1.0)
                read += len(text)
                if text.strip():
                    yield RawDocument(
                        text.strip(), start, min(read / text_format.num_characters, 1)
                    )
    except pa.ArrowException as error:
        hint = f" (a row may have {CSV_BLOCK_BYTES:,} bytes)" if "straddl" in str(error) else ""
        raise CorpusError(f"{path} is not a well-formed CSV file: {error}{hint}") from error


def read_parquet(path: Path) -> Iterator[RawDocument]:
    """Yield one document a row."""
    try:
        # pre_buffer would keep every byte read until the end: 0.6 GB for a 0.6 GB file.
        with pq.ParquetFile(path, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            column = choose_column(file.schema_arrow.names, None, path)
            kind = file.schema_arrow.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise CorpusError(f"column {column!r} of {path} holds {kind}, not text")
            num_rows = max(file.metadata.num_rows, 1)
            read = 0
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    read += 1
                    if text is not None and text.strip():
                        yield RawDocument(text.strip(), (read - 1) / num_rows, read / num_rows)
    except pa.ArrowException as error:
        raise CorpusError(f"{path} is not a readable Parquet file: {error}") from error


def _csv_header(path: Path, text_format: TextFormat) -> list[str]:
    with path.open(encoding=text_format.encoding, newline="") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error as error:
            raise CorpusError(f"{path} has no readable header line: {error}") from error


def _parse_line(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorpusError(
            f'{where} holds a {type(record).__name__}, expected an object like {{"text": "..."}}'
        )
    return record


def _text_of(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {column!r} holds a {type(value).__name__}, not text")
    return whole_characters(value).strip()  # JSON may hold halves of characters
