"""Exact conversion between Python values and SQLite values, both ways.

Text is kept as UTF-8 bytes in BLOB columns, lone surrogates passed through: sqlite3 refuses
such strings as TEXT, and SQL functions stop at a NUL in TEXT. JSON is the same bytes of its
shortest form. Times are whole microseconds since 1970-01-01 UTC, so no float rounding.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.errors import DatabaseCorruptError, InvalidRecordError

__all__ = ["decode_json", "decode_text", "decode_time", "encode_json", "encode_text", "encode_time"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ADVICE = "Delete the run, or move the database file away and start again."


def encode_text(name: str, value: str) -> bytes:
    """Bytes of a string, any string; ``name`` is the field that an error message names."""
    if not isinstance(value, str):
        raise InvalidRecordError(f"{name} must be text, not {type(value).__name__}.")
    return value.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The string that ``encode_text`` was given. Raises: DatabaseCorruptError."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DatabaseCorruptError(f"A saved text is damaged: {error}. {_ADVICE}") from error


def encode_json(name: str, value: dict[str, Any]) -> bytes:
    """Bytes of a JSON object.

    Tuples come back as lists and keys that are numbers as text: JSON has neither.

    Raises: InvalidRecordError when the value is no dict, or holds NaN, an infinity or
        anything else that JSON cannot express.
    """
    if not isinstance(value, dict):
        raise InvalidRecordError(f"{name} must be a dict, not {type(value).__name__}.")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecordError(
            f"{name} cannot be saved as JSON: {error}. Allowed are dicts with text keys, lists, "
            "text, whole numbers, finite floats, booleans and None; use None for a missing number."
        ) from error
    return text.encode("utf-8", "surrogatepass")


def decode_json(data: bytes) -> dict[str, Any]:
    """The dict that ``encode_json`` was given. Raises: DatabaseCorruptError."""
    text = decode_text(data)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DatabaseCorruptError(f"A saved record is damaged: {error}. {_ADVICE}") from error
    if not isinstance(value, dict):
        raise DatabaseCorruptError(
            f"A saved record is damaged: a JSON {type(value).__name__}, not an object. {_ADVICE}"
        )
    return value


def encode_time(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def decode_time(microseconds: int) -> datetime:
    """The aware UTC datetime that ``encode_time`` was given."""
    return _EPOCH + timedelta(microseconds=microseconds)
