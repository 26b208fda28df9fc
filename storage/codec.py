"""Exact conversion between Python values and SQLite values, both ways.

Text is kept as UTF-8 bytes in BLOB columns, lone surrogates passed through: sqlite3 refuses
such strings as TEXT, and SQL functions stop at a NUL in TEXT. JSON is the same bytes of its
shortest form. Times are whole microseconds since 1970-01-01 UTC, so no float rounding.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from storage.errors import DatabaseCorruptError, InvalidRecordError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ADVICE = "Delete it, or move the database file away and start again."
_MAX_WHOLE = 2**63 - 1
# Only a text with so many digits in a row can hold a larger whole number; most hold none.
_MANY_DIGITS = re.compile(r"[0-9]{19}")


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

    Raises: InvalidRecordError when the value is no dict, or holds NaN, an infinity, a whole
        number beyond 64 bits (no page could be sent it) or what JSON cannot express.
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
    if _MANY_DIGITS.search(text) and _is_beyond(value):
        raise InvalidRecordError(
            f"{name} cannot be saved: it holds a whole number beyond 64 bits. Allowed are those "
            f"up to {_MAX_WHOLE:,}."
        )
    return text.encode("utf-8", "surrogatepass")


def decode_json(data: bytes) -> dict[str, Any]:
    """The dict that ``encode_json`` was given. Raises: DatabaseCorruptError."""
    text = decode_text(data)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DatabaseCorruptError(f"A saved record is damaged: {error}. {_ADVICE}") from error
    if not isinstance(value, dict):
        raise DatabaseCorruptError(
            f"A saved record is damaged: a JSON {type(value).__name__}, not an object. {_ADVICE}"
        )
    if _MANY_DIGITS.search(text) and _is_beyond(value):
        raise DatabaseCorruptError(
            f"A saved record is damaged: it holds a whole number beyond 64 bits. {_ADVICE}"
        )
    return value


def encode_time(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def decode_time(microseconds: int) -> datetime:
    """The aware UTC datetime that ``encode_time`` was given."""
    return _EPOCH + timedelta(microseconds=microseconds)


class RowReader:
    """Decodes the columns of one row; what is wrong with them is kept instead of raised.

    A list then shows the row as damaged, where an error would hide all the others.

    Attributes:
        damage: the first thing that was wrong; None while nothing was.
    """

    def __init__(self) -> None:
        self.damage: str | None = None

    def text(self, data: bytes) -> str:
        """The text; where it is damaged, what can be read of it."""
        try:
            return decode_text(data)
        except DatabaseCorruptError as error:
            self.damage = self.damage or str(error)
            return data.decode("utf-8", "replace")

    def json(self, data: bytes) -> dict[str, Any]:
        """The object; an empty one where it is damaged."""
        try:
            return decode_json(data)
        except DatabaseCorruptError as error:
            self.damage = self.damage or str(error)
            return {}

    def time(self, microseconds: int) -> datetime:
        """The moment; 1970 where there is none such."""
        try:
            return decode_time(microseconds)
        except OverflowError:
            self.damage = self.damage or f"A saved time is damaged. {_ADVICE}"
            return _EPOCH


def _is_beyond(value: Any) -> bool:
    """Return whether a whole number inside has more than 64 bits."""
    if isinstance(value, dict):
        return any(map(_is_beyond, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_beyond, value))
    return isinstance(value, int) and abs(value) > _MAX_WHOLE


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
