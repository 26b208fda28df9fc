"""Reads files given on the command line: a text, or the cases of ``score``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from app.host.errors import InputFileError, system_errors
from sol_core.files.places import read_regular, why_not_parsed

MAX_TEXT_BYTES = 16_000_000  # far beyond any context window, small enough to tokenise


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
