"""Validates the fields of configurations, forms and documents.

A dataclass declares the rules in annotations, as in ``updates: Annotated[int, Range(0, 1000)]``.
``check_fields`` applies them to an object in its ``__post_init__``; ``from_json`` makes an object
from untrusted JSON. Numbers without a ``Range`` have at most 64 bits, the limit of SQLite and
browsers.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast, get_args, get_origin

from sol_core.errors import ConfigError, SolError, UnknownNameError

RecordT = TypeVar("RecordT")
ValueT = TypeVar("ValueT")
P = ParamSpec("P")
MAX_WHOLE = 2**63 - 1
MAX_TEXT = 1_000_000  # characters of a text
MAX_ITEMS = 10_000  # of a list
MAX_DEPTH = 40  # of nested JSON without a dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """The smallest and largest number allowed in a field.

    Compared by identity: ``typing`` would unify 0–1 and 0.0–1.0.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """The words allowed in a field, from a table; use ``Literal`` for fixed words."""

    words: Collection[str]  # the table's keys
    kind: type | None = None  # of an object allowed instead of a word


def setting(default: ValueT, text: str) -> ValueT:
    """Declare a configuration's field with a default and a help text, shown on pages."""
    made: ValueT = field(default=default, metadata={"help": text})
    return made


def added_field(default: ValueT) -> ValueT:
    """Declare a field newer than some files; ``record_of`` omits it at its default."""
    made: ValueT = field(default=default, metadata={"added": True})
    return made


def is_unset(item: dataclasses.Field[Any], value: object) -> bool:
    """Return whether the value equals the default of an added field."""
    return "added" in item.metadata and bool(value == item.default)


def configuration(kind: type[RecordT]) -> type[RecordT]:
    """Class decorator: document all fields; suggest the nearest one for an unknown keyword."""
    fields = dataclasses.fields(cast(Any, kind))
    names = [item.name for item in fields]
    documented = [
        f"        {item.name}: {item.metadata['help']}"
        for item in fields
        if "help" in item.metadata
    ]
    if documented:
        kind.__doc__ = "\n".join(((kind.__doc__ or "").rstrip(), "", "    Fields:", *documented))
    made: Any = kind.__init__
    init = _with_known_names(made, names, f"{kind.__name__} has no setting")
    kind.__init__ = init  # type: ignore[method-assign]
    return kind


def with_nearest(function: Callable[P, ValueT]) -> Callable[P, ValueT]:
    """Decorator: suggest the nearest keyword for an unknown one."""
    names = list(inspect.signature(function).parameters)
    return _with_known_names(function, names, f"{function.__name__}() takes no")


def _with_known_names(
    function: Callable[P, ValueT], names: Collection[str], what: str
) -> Callable[P, ValueT]:
    @functools.wraps(function)
    def call(*values: P.args, **given: P.kwargs) -> ValueT:
        check_names(given, names, what)
        return function(*values, **given)

    return call


def check_names(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Raises: UnknownNameError for an unknown name, with the nearest known one."""
    for name in given:
        if name in known:
            continue
        text = str(name)
        close = difflib.get_close_matches(text, known, 1, 0.5)
        close = close or [other for other in known if text in other or other in text][:1]
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
        raise UnknownNameError(f"{what} {_short(name)}; {hint}")


def changed(config: RecordT, changes: Mapping[str, Any]) -> RecordT:
    """Return the configuration with changes; a nested one may be given as a dict of changes."""
    kind, made = type(config), {}
    check_names(changes, _hints(cast(Any, kind)), f"{kind.__name__} has no setting")
    for name, value in changes.items():
        old = getattr(config, name)
        is_nested = dataclasses.is_dataclass(old) and isinstance(value, Mapping)
        made[name] = changed(old, value) if is_nested else value
    return dataclasses.replace(cast(Any, config), **made)  # type: ignore[no-any-return]


Seed = Annotated[int, Range(0, MAX_WHOLE)]
Positive = Annotated[int, Range(1, 1_000_000)]


@dataclass(frozen=True, slots=True)
class Rules:
    """Allowed differences between JSON and the dataclasses."""

    # Additional fields in the JSON of a dataclass, with their types.
    derived: Mapping[type, Mapping[str, type]] = field(default_factory=dict)
    partial: frozenset[type] | None = None  # whose defaulted fields may be missing; None: all
    nullable: frozenset[str] = frozenset()  # float fields that may be null, as JSON has no NaN
    name: str = ""  # of the document in messages; "" for its class


def from_json(
    kind: type[RecordT], value: Any, where: str = "", rules: Rules | None = None
) -> RecordT:
    """Make an object of the dataclass ``kind`` from JSON, with differences per ``rules``."""
    rules = rules or Rules()
    name = where or rules.name or kind.__name__
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    value = _without_former_fields(kind, value, where)
    hints, derived = _hints(cast(Any, kind)), rules.derived.get(kind, {})
    if unknown := sorted(map(str, value.keys() - hints.keys() - derived.keys())):
        allowed = ", ".join(sorted(hints))
        raise ConfigError(f"{name} has an unknown field {_short(unknown[0])}; allowed: {allowed}")
    for part, hint in derived.items():
        _checked(hint, value.get(part), _path_to(where, part), rules)
    made = {}
    is_whole = rules.partial is not None and kind not in rules.partial  # no field may be missing
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]  # is one
        if item.name in value:
            hint = hints[item.name]
            if item.name in rules.nullable:
                hint = _nullable(hint)
            made[item.name] = _checked(hint, value[item.name], _path_to(where, item.name), rules)
        elif (is_whole and "added" not in item.metadata) or (
            item.default is item.default_factory is dataclasses.MISSING
        ):
            raise ConfigError(f"{name} lacks the field {item.name!r}")
    try:
        return kind(**made)
    except (SolError, ValueError) as error:
        raise ConfigError(f"{where} is not allowed: {error}" if where else str(error)) from error


def _without_former_fields(kind: type, record: dict[str, Any], where: str) -> dict[str, Any]:
    """Drop the class's ``FORMER_FIELDS`` that have the declared value, or type."""
    former: dict[str, Any] = vars(kind).get("FORMER_FIELDS", {})
    for name, known in former.items():
        value = record.get(name, known)
        if value != known and not (isinstance(known, type) and isinstance(value, known)):
            raise ConfigError(
                f"{_path_to(where, name)} is a setting of earlier releases, of which this one "
                f"knows {getattr(known, '__name__', repr(known))} alone, got {_short(value)}"
            )
    return {name: value for name, value in record.items() if name not in former}


def check_fields(record: Any, where: str = "") -> None:
    """Check a record in ``__post_init__``; turn lists into tuples, dicts into dataclasses."""
    for name, hint in _hints(cast(Any, type(record))).items():
        value = getattr(record, name)
        checked = _checked(hint, value, _path_to(where, name), None)
        if checked is not value:
            object.__setattr__(record, name, checked)


def plain_scalar(value: Any) -> Any:
    """Convert a numpy or torch scalar to a Python number; return other values unchanged."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "shape", None) == () else value


def check_text(name: str, text: object) -> None:
    """Raises: ConfigError unless the value is a text without lone surrogates."""
    check_kind(name, text, str, "text")
    try:
        cast(str, text).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise ConfigError(
            f"{name} holds half a character, the lone surrogate {half} at {error.start}: give "
            "whole characters"
        ) from None


def kind_of(value: object) -> str:
    """Return a value's kind with its article: "a list", "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def check_kind(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raises: ConfigError naming the wanted kind for an argument of another kind."""
    if not isinstance(value, kinds):
        raise _wrong(name, value, wanted)


def is_servable(value: Any, depth: int = 0) -> bool:
    """Return whether a value is plain JSON with finite numbers of at most 64 bits."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(
            is_servable(item, depth + 1) for item in value.values()
        )
    if isinstance(value, (list, tuple)):
        return all(is_servable(item, depth + 1) for item in value)
    if isinstance(value, int):
        return abs(value) <= MAX_WHOLE
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or isinstance(value, str)


def _checked(hint: Any, value: Any, where: str, rules: Rules | None) -> Any:
    """Return the value converted to the hint's type. Raises: ConfigError."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _object(hint, value, where, rules)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if isinstance(inner[1], OneOf):
            own = inner[1].kind
            return value if own and isinstance(value, own) else _word(inner[1].words, value, where)
        return _number(inner[0], value, where, inner[1])
    if origin in (types.UnionType, typing.Union):
        some = next(arg for arg in inner if arg is not type(None))
        return None if value is None else _checked(some, value, where, rules)
    if origin is tuple:
        return _items(inner, value, where, rules)
    if origin is dict:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise _wrong(where, value, f"an object of at most {MAX_ITEMS:,} values")
        pairs = value.items()
        return {key: _checked(inner[1], item, _path_to(where, key), rules) for key, item in pairs}
    if origin is Literal:
        return _word(inner, value, where)
    return _plain(hint, value, where)


def _word(words: Collection[str], value: Any, where: str) -> Any:
    if not isinstance(value, str) or value not in words:
        raise _wrong(where, value, f"one of {', '.join(words)}")
    return value


def _object(kind: Any, value: Any, where: str, rules: Rules | None) -> Any:
    if rules is not None or isinstance(value, dict):
        return from_json(kind, value, where, rules)
    if not isinstance(value, kind):
        raise _wrong(where, value, f"a {kind.__name__}")
    return value


def _items(hints: tuple[Any, ...], value: Any, where: str, rules: Rules | None) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
        raise _wrong(where, value, f"a list of at most {MAX_ITEMS:,} values")
    return tuple(_checked(hints[0], item, f"{where}[{at}]", rules) for at, item in enumerate(value))


def _plain(kind: Any, value: Any, where: str) -> Any:
    value = plain_scalar(value)
    if kind in (int, float):
        return _number(kind, value, where, None)
    if kind is Any:
        if not is_servable(value):
            raise _wrong(where, value, "plain JSON with finite numbers of at most 64 bits")
    elif kind is bool:
        if not isinstance(value, bool):
            raise _wrong(where, value, "true or false")
    elif not isinstance(value, str) or len(value) > MAX_TEXT:
        limit = f" of at most {MAX_TEXT:,} characters" if isinstance(value, str) else ""
        raise _wrong(where, value, f"text{limit}")
    return value


def _number(kind: type, value: Any, where: str, within: Range | None) -> Any:
    value = plain_scalar(value)
    low, high = (within.low, within.high) if within else (-MAX_WHOLE, MAX_WHOLE)
    kinds = int if kind is int else (int, float)
    # Only comparisons: NaN fails them, and huge integers do not overflow.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        word = "whole number" if kind is int else "number" if within else "finite number"
        bounds = f"from {low:,} to {high:,}" if within else "of at most 64 bits"
        raise _wrong(where, value, f"a {word} {bounds}")
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


@functools.cache
def _nullable(hint: Any) -> Any:
    """Return the hint with ``float | None`` for every float inside."""
    origin, inner = get_origin(hint), tuple(map(_nullable, get_args(hint)))
    if hint is float:
        return float | None
    if origin in (tuple, dict):
        return origin[inner]
    return typing.Union[inner] if origin in (types.UnionType, typing.Union) else hint  # noqa: UP007


def _path_to(where: str, name: Any) -> str:
    shown = name if isinstance(name, str) and name.isidentifier() else _short(name)
    return f"{where}.{shown}" if where else str(shown)


def _wrong(where: str, value: Any, wanted: str) -> ConfigError:
    given = "nothing" if value is None else _short(value)
    return ConfigError(f"{where} must be {wanted}, got {given}")


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else kind_of(value)
    return text if len(text) <= 60 else text[:59] + "…"
