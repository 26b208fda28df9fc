"""``--set key=value``: fields of the training configuration by dotted names."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.training.config import TrainConfig


def apply_settings(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """The configuration with ``key=value`` texts applied, the last one of a key winning.

    Values are JSON (5, 0.1, true, [0.5, 1.0], null) or plain words.

    Raises: ConfigError naming the key and what is allowed.
    """
    known = dict(_leaves(TrainConfig))
    record = config.to_dict()
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set needs key=value, got {setting!r}")
        if key not in known:
            raise ConfigError(f"unknown key {key!r}; allowed: {', '.join(known)}")
        *groups, name = key.split(".")
        target = record
        for group in groups:
            target = target[group]
        target[name] = _value(key, known[key], text.strip())
    return from_json(TrainConfig, record)


def _leaves(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of a dataclass's plain fields, with their types."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", hint


def _value(key: str, hint: Any, text: str) -> Any:
    is_text = hint is str or (
        typing.get_origin(hint) is typing.Literal
        and all(isinstance(choice, str) for choice in typing.get_args(hint))
    )
    if is_text:
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{key} must be a number or another JSON value, got {text!r}") from error
    if isinstance(value, (dict, str)):
        raise ConfigError(f"{key} must be a number or another JSON value, got {text!r}")
    if hint is float and type(value) is int:
        return float(value)
    return value
