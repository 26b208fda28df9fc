"""The reader of a page's form: one dataclass describes its values."""

from __future__ import annotations

from typing import Any, TypeVar

from sol_core.fields import Rules, from_json

FormT = TypeVar("FormT")
_RULES = Rules(name="the form")


def read_form(kind: type[FormT], values: dict[str, Any]) -> FormT:
    """Return the form that a page sent; what is missing takes its default.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    return from_json(kind, values, rules=_RULES)
