"""Converts dataclasses to JSON, without fields that older files lack if they have defaults."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from kernels.mlp_pruners import MlpPruner
from kernels.page_scorers import PageScorer
from sol_core.fields import is_unset


def record_of(record: Any) -> dict[str, Any]:
    """Convert a dataclass to JSON: ``asdict`` without unset ``fields.added_field``s.

    Files and hashes from before these fields existed stay valid.
    """
    pairs = [(part, getattr(record, part.name)) for part in fields(record)]
    return {part.name: _plain(value) for part, value in pairs if not is_unset(part, value)}


def _plain(value: Any) -> Any:
    if isinstance(value, (PageScorer, MlpPruner)):
        return value.name
    if is_dataclass(value):
        return record_of(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


class Record:
    """Base of dataclasses that convert to JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON; ``fields.from_json`` reads it back."""
        return record_of(self)
