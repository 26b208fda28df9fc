"""Files given on the command line: a text, a corpus, the cases of ``score``, an experiment.

An experiment is a TOML file of every field of its configuration, and what it is done with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.host.errors import InputFileError, system_errors
from sol_core import __version__
from sol_core.corpus.documents import BUILTIN, PAPERS, names_hub_data_set
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.files.paths import read_regular, why_not_parsed
from sol_core.training.config import TrainConfig

if TYPE_CHECKING:
    from sol_core.policy.info import PolicyInfo

MAX_TEXT_BYTES = 16_000_000  # far beyond any context window, small enough to tokenise
# Beside the configuration's fields: what every command takes, and train.
MODEL_OPTIONS = ("model", "dtype", "device")
MAX_BYTES = 1_000_000
OPTIONS = ("preset", "name", *MODEL_OPTIONS)


def read_file(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """A file's bytes. Raises: InputFileError."""
    with system_errors(f"cannot read {path}"):
        return read_regular(path, most)


def read_text(source: str, what: str = "text") -> str:
    """The text, as it stands in the file; of stdin without the one newline that ``echo`` adds."""
    name = "stdin" if source == "-" else source
    if source == "-":
        with system_errors("cannot read stdin"):
            content = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise InputFileError(f"cannot read stdin: it has more than {MAX_TEXT_BYTES / 1e6:g} MB")
    else:
        content = read_file(Path(source))
    if b"\0" in content:
        raise InputFileError(f"{name} is not text: byte {content.index(0)} is zero")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(
            f"{name} is not UTF-8 text (byte {error.start}): convert it first"
        ) from error
    if not text.strip():
        raise InputFileError(f"{name} is empty: there is no {what} in it")
    return text.removesuffix("\n").removesuffix("\r") if source == "-" else text


def read_case_file(path: Path) -> tuple[list[Any], bool]:
    """The cases, unchecked, and whether the file held them under "cases"."""
    data = read_file(path)
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 text, so not a JSON file of cases") from error
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path} is not valid JSON: {why_not_parsed(error)}") from error
    in_object = isinstance(content, dict)
    cases = content.get("cases") if in_object else content
    if not isinstance(cases, list):
        raise InputFileError(f'{path} must hold a list of cases, or an object with "cases"')
    if not cases:
        raise InputFileError(f"{path} holds no cases")
    return cases, in_object


def read_experiment(
    path: Path | None, names: Collection[str] = OPTIONS
) -> tuple[dict[str, str], dict[str, Any]]:
    """The command's options in a file, if any, and the configuration's fields, unchecked."""
    if path is None:
        return {}, {}
    data = read_file(path, MAX_BYTES)
    try:
        record = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of UTF-8
        raise InputFileError(f"{path} is not TOML: {why_not_parsed(error)}") from error
    options = {name: record.pop(name) for name in names if name in record}
    for name, value in options.items():
        if not isinstance(value, str) or not value.strip():
            raise InputFileError(f"{path}: {name} must be a text, got {value!r}")
    return options, record


def take_options(
    args: argparse.Namespace, options: Mapping[str, str], corpus: str | None = None
) -> None:
    """Let the file's options and corpus, or else this one, stand where the command has none."""
    for option, value in options.items():
        if getattr(args, option) in (None, "auto"):
            setattr(args, option, value)
    if args.corpus is None:
        args.corpus = args.fields.pop("corpus", corpus)
    if isinstance(args.corpus, str):
        args.corpus = corpus_source(args.corpus)


def merged(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested record with the values of another one instead of its own."""
    made = dict(record)
    for name, value in changes.items():
        inner = made.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = merged(inner, value)
        made[name] = value
    return made


def recipe(info: PolicyInfo) -> str:
    """The file that trains a policy again, complete."""
    config = info.summary.get("train_config")
    if not isinstance(config, dict):
        raise InputFileError(f"the policy {info.name!r} does not say how it was trained")
    remarks = (
        f"The training of {info.name!r}, {info.created}; to do it again: train --config THIS_FILE",
        f"model {info.model}, fingerprint {info.fingerprint}",
        f"corpus fingerprint {info.corpus_fingerprint}; written by version {__version__}",
    )
    options = {"name": f"{info.name}-again", "model": info.model}
    return experiment_text(options | config, remarks)


def versions() -> str:
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "numba")}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"written by version {__version__}; Python {platform.python_version()}, {packages}"


def experiment_text(record: Mapping[str, Any], remarks: Iterable[str]) -> str:
    """A file of options and fields under its remarks, one line each."""
    head = [f"# {' '.join(remark.split())}" for remark in remarks]
    return "\n".join([*head, "", *_lines(record)]) + "\n"


def _lines(record: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Values, then tables. TOML has no null: where a field may be that, it is the default."""
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
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_value(entry)}' for name, entry in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers and truth are written as in JSON


def apply_settings(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """Apply ``key=value`` texts: keys are dotted names of fields, values JSON or else words."""
    record = config.to_dict()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set needs key=value, got {setting!r}")
        value: Any = text.strip()
        with contextlib.suppress(ValueError, RecursionError):  # it is no JSON
            value = json.loads(value)
        for name in reversed(key.strip().split(".")):
            value = {name: value}
        record = merged(record, value)
    return from_json(TrainConfig, record)


def corpus_source(text: str) -> str:
    """A corpus as the engine takes it: a path becomes absolute, since a worker runs elsewhere."""
    if text in (BUILTIN, PAPERS):
        return text
    try:
        path = Path(text).expanduser()
        if text.strip() and (path.is_file() or path.is_dir()):
            return str(path.absolute())
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL
        raise InputFileError(f"cannot read the corpus {text!r}: {error}") from error
    if not names_hub_data_set(text):
        raise InputFileError(
            f"cannot read the corpus {text!r}: no such file or folder; give a .txt, .jsonl, .csv "
            f"or .parquet file, a folder of them, {BUILTIN!r}, {PAPERS!r} or a Hub data set "
            "owner/name:config:part:column, of which owner/name is enough"
        )
    return text
