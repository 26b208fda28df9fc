"""Checks JSON that came from elsewhere against the dataclasses that it claims to be.

Every field must be there and of the annotated type, and nothing else may be; ``Rules`` says what
is excepted. The dataclass is made, so that its own checks run too.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from app.errors import DocumentError
from sol_core.errors import SolError

__all__ = ["Rules", "restored", "restored_list"]

RecordT = TypeVar("RecordT")
MAX_TEXT = 1_000_000  # characters of one text
MAX_ITEMS = 10_000  # of one list inside a record
_MAX_INT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Rules:
    """How JSON may differ from the dataclasses.

    Attributes:
        derived: fields, with their types, that the JSON of a dataclass carries on top.
        partial: dataclasses whose fields with defaults may be missing: older releases lacked them.
        nullable: names of float fields that may be null: JSON has no word for NaN.
    """

    derived: Mapping[type, Mapping[str, type]] = field(default_factory=dict)
    partial: frozenset[type] = frozenset()
    nullable: frozenset[str] = frozenset()


def restored(kind: type[RecordT], value: Any, where: str, rules: Rules) -> RecordT:
    """The dataclass ``kind`` that ``value`` describes.

    Args:
        where: what the value is called in messages.
    Raises: DocumentError naming the place, what is there and what belongs there.
    """
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]  # is one
    derived = rules.derived.get(kind, {})
    if unknown := sorted(value.keys() - fields.keys() - derived.keys()):
        raise DocumentError(f"{where} has an unknown field {_short(unknown[0])}")
    for name, hint in derived.items():
        _value(hint, value.get(name), f"{where}.{name}", rules, False)
    hints = typing.get_type_hints(kind)
    made = {}
    for name, item in fields.items():
        if name in value:
            may_be_null = name in rules.nullable
            made[name] = _value(hints[name], value[name], f"{where}.{name}", rules, may_be_null)
        elif kind not in rules.partial or not _has_default(item):
            raise DocumentError(f"{where} lacks the field {name!r}")
    try:
        return kind(**made)
    except (SolError, TypeError, ValueError) as error:
        raise DocumentError(f"{where} is not allowed: {error}") from error


def restored_list(kind: type[RecordT], value: Any, where: str, rules: Rules) -> list[RecordT]:
    """As ``restored``, for a list of records."""
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    return [restored(kind, item, f"{where}[{at}]", rules) for at, item in enumerate(value)]


def _value(hint: Any, value: Any, where: str, rules: Rules, may_be_null: bool) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return restored(hint, value, where, rules)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        inner = next(arg for arg in get_args(hint) if arg is not type(None))
        return None if value is None else _value(inner, value, where, rules, may_be_null)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise _wrong(where, value, f"a list of at most {MAX_ITEMS:,} values")
        item = get_args(hint)[0]
        return tuple(
            _value(item, one, f"{where}[{at}]", rules, may_be_null) for at, one in enumerate(value)
        )
    if origin is dict:
        return _mapping(get_args(hint)[1], value, where, rules, may_be_null)
    if origin is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise _wrong(where, value, f"one of {', '.join(get_args(hint))}")
        return value
    if hint is float and value is None and may_be_null:
        return value
    if not _fits(hint, value):
        raise _wrong(where, value, _WANTED[hint])
    return value


def _mapping(item: Any, value: Any, where: str, rules: Rules, may_be_null: bool) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise _wrong(where, value, f"an object of at most {MAX_ITEMS:,} values")
    return {
        key: _value(item, one, f"{where}.{_short(key)}", rules, may_be_null)
        for key, one in value.items()
    }


_WANTED = {
    float: "a finite number",
    int: "a whole number",
    str: f"text of at most {MAX_TEXT:,} characters",
    bool: "true or false",
}


def _has_default(item: dataclasses.Field[Any]) -> bool:
    return not item.default is item.default_factory is dataclasses.MISSING


def _fits(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) <= _MAX_INT and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and abs(value) <= _MAX_INT
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _wrong(where: str, value: Any, wanted: str) -> DocumentError:
    return DocumentError(f"{where} must be {wanted}, got {_short(value)}")


def _short(value: Any) -> str:
    text = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
