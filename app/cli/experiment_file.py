"""A training as a TOML file: every field of its configuration, and what it is done with.

``train --config FILE`` reads one, ``policies recipe NAME`` writes the one that a policy came from.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.host.errors import InputFileError

if TYPE_CHECKING:
    from sol_core.policy import PolicyInfo

OPTIONS = ("preset", "name", "model", "dtype", "device")  # beside the configuration's fields


@dataclass(frozen=True, slots=True)
class Experiment:
    """Content of a file.

    Attributes:
        options: texts, of ``OPTIONS`` those that are there.
        fields: of the training's configuration, nested as it is.
    """

    options: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


def read_experiment(path: Path) -> Experiment:
    """Read a file; its fields are checked with the configuration.

    Raises: InputFileError.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # also of UTF-8
        raise InputFileError(f"{path} is not TOML: {error}") from error
    options = {name: record.pop(name) for name in OPTIONS if name in record}
    for name, value in options.items():
        if not isinstance(value, str) or not value.strip():
            raise InputFileError(f"{path}: {name} must be a text, got {value!r}")
    return Experiment(options, record)


def merged(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested record with the values of another one in their places."""
    made = dict(record)
    for name, value in changes.items():
        inner = made.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = merged(inner, value)
        made[name] = value
    return made


def recipe(info: PolicyInfo, version: str) -> str:
    """The file that trains a policy again, complete, with what else decided it as remarks.

    Raises: InputFileError for a policy that does not say how it was trained.
    """
    config = info.summary.get("train_config")
    if not isinstance(config, dict):
        raise InputFileError(f"the policy {info.name!r} does not say how it was trained")
    remarks = (
        f"The training of {info.name!r}, {info.created}; to do it again: train --config THIS_FILE",
        f"model {info.model}, fingerprint {info.fingerprint}",
        f"corpus fingerprint {info.corpus_fingerprint}; written by version {version}",
    )
    head = [f"# {' '.join(remark.split())}" for remark in remarks]
    options = {"name": f"{info.name}-again", "model": info.model}
    return "\n".join([*head, "", *_lines(options | config)]) + "\n"


def _lines(record: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """A nested record's lines: values first, then its tables. TOML has no null: it is left out,
    as in every field that may be null, it is the default."""
    for name, value in record.items():
        if value is not None and not isinstance(value, dict):
            yield f"{name} = {_value(value)}"
    for name, value in record.items():
        if isinstance(value, dict):
            yield ""
            yield f"[{table}{name}]"
            yield from _lines(value, f"{table}{name}.")


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers and truth are written as in JSON
