"""Reads the JSON of ``score``: a list of cases, or an object that holds it under "cases".

Only the frame is checked here, before any package is needed; ``sol_core.comparing.scoring`` knows
what a case must hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from app.host.errors import InputFileError


class CaseFile(NamedTuple):
    """The cases as they stand in the file, and whether it held them under "cases"."""

    cases: list[Any]
    in_object: bool


def read_case_file(path: Path) -> CaseFile:
    """Read a file of cases. Raises InputFileError naming the file and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 text, so not a JSON file of cases") from error
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path} is not valid JSON: {error}") from error
    in_object = isinstance(content, dict)
    cases = content.get("cases") if in_object else content
    if not isinstance(cases, list):
        raise InputFileError(f'{path} must hold a list of cases, or an object with "cases"')
    if not cases:
        raise InputFileError(f"{path} holds no cases")
    return CaseFile(cases, in_object)
