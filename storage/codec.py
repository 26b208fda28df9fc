"""Exact conversion between Python values and SQLite values, both ways.

Text is UTF-8 in BLOBs, lone surrogates passed through: as TEXT sqlite3 refuses such strings, and
SQL functions stop at a NUL. JSON is likewise; times are whole microseconds since 1970 UTC.
"""

from __future__ import annotations

import functools
import json
import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar, cast

from sqlalchemy import Row

from storage.errors import DatabaseCorruptError, InvalidRecordError

_RecordT = TypeVar("_RecordT")
_hints = functools.cache(typing.get_type_hints)  # of a record's class
_TIMES = (datetime, datetime | None)
_OBJECTS = (dict[str, Any], dict[str, Any] | None)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_WHOLE = 2**63 - 1
# Only a text with so many digits in a row can hold a larger whole number; most hold none.
_MANY_DIGITS = re.compile(r"[0-9]{19}")


def encode_text(name: str, value: str) -> bytes:
    """Bytes of a string, any string; ``name`` is the field that an error message names."""
    if not isinstance(value, str):
        raise InvalidRecordError(f"{name} must be text, not {type(value).__name__}.")
    return value.encode("utf-8", "surrogatepass")


@contextmanager
def _naming_damage() -> Iterator[None]:
    """Say of any saved value that cannot be read what is wrong with it, and the remedy."""
    try:
        yield
    except (ValueError, RecursionError, OverflowError) as error:
        raise DatabaseCorruptError(
            f"A saved record is damaged: {error}. Delete it, or move the database file away and "
            "start again."
        ) from error


def decode_text(data: bytes) -> str:
    """The string that ``encode_text`` was given. Raises: DatabaseCorruptError."""
    with _naming_damage():
        return data.decode("utf-8", "surrogatepass")


def encode_json(name: str, value: dict[str, Any]) -> bytes:
    """Bytes of a JSON object; tuples come back as lists, keys that are numbers as text.

    Raises: InvalidRecordError when the value is no dict, or holds NaN, an infinity, a whole number
    beyond 64 bits (no page could be sent it) or what JSON cannot express.
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
    with _naming_damage():
        value = json.loads(text, parse_constant=refuse_constant)
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}, not an object")
        if _MANY_DIGITS.search(text) and _is_beyond(value):
            raise ValueError("it holds a whole number beyond 64 bits")
        return value


def text_or_none(name: str, value: str | None) -> bytes | None:
    """Encode with ``encode_text``; None stays None."""
    return None if value is None else encode_text(name, value)


def json_or_none(name: str, value: dict[str, Any] | None) -> bytes | None:
    """Encode with ``encode_json``; None stays None."""
    return None if value is None else encode_json(name, value)


def number_of(row: dict[str, Any], what: str, name: str, most: int) -> int:
    """The row's number in its series, under ``name``. Raises: InvalidRecordError."""
    number = row.get(name) if isinstance(row, dict) else None
    if type(number) is not int or not 0 <= number <= most:
        raise InvalidRecordError(
            f'{what} needs "{name}" that is a whole number from 0 to {most}, not {number!r}.'
        )
    return number


def encode_time(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def decode_time(microseconds: int) -> datetime:
    """The aware UTC datetime that ``encode_time`` was given. Raises: DatabaseCorruptError."""
    with _naming_damage():
        return _EPOCH + timedelta(microseconds=microseconds)


def read_row(kind: type[_RecordT], row: Row[Any]) -> _RecordT:
    """The record of the dataclass ``kind`` in a row; what it calls x_at is in the column x_us.

    A part that is damaged is empty, and the field ``damage`` says so: a list then shows the row.
    Raises: DatabaseCorruptError for damage in a record without such a field.
    """
    hints, values = _hints(cast(Any, kind)), {}
    for name in hints.keys() - {"damage"}:
        data = row._mapping[f"{name[:-3]}_us" if name.endswith("_at") else name]
        try:
            values[name] = _decoded(hints[name], data)
        except DatabaseCorruptError as error:
            if "damage" not in hints:
                raise
            values.setdefault("damage", str(error))
            values[name] = _empty(hints[name], data)
    return kind(**values)


def _decoded(hint: Any, data: Any) -> Any:
    if data is None:
        return None
    if hint in _TIMES:
        return decode_time(data)
    if not isinstance(data, bytes):
        return data
    return decode_json(data) if hint in _OBJECTS else decode_text(data)


def _empty(hint: Any, data: Any) -> Any:
    if hint in _TIMES:
        return _EPOCH
    return {} if hint in _OBJECTS else data.decode("utf-8", "replace")


def _is_beyond(value: Any) -> bool:
    """Return whether a whole number inside has more than 64 bits."""
    if isinstance(value, dict):
        return any(map(_is_beyond, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_beyond, value))
    return isinstance(value, int) and abs(value) > _MAX_WHOLE


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities, as ``parse_constant`` of ``json.loads``."""
    raise ValueError(f"{name} is no JSON number")
