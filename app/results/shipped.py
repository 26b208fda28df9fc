"""Measured results that ship with the program, as ``--json`` printed them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sol_core.policy.files.locate import DEFAULT_POLICY
from storage import TASKS_JOB, JobKind

SHIPPED = "shipped"  # asked for in place of a job's id
TITLE = DEFAULT_POLICY
_MEASURED = Path(__file__).with_name("measured")
_FILES: dict[JobKind, str] = {"evaluate": "evaluation.json", TASKS_JOB: "accuracy.json"}


@cache
def shipped_record(kind: JobKind) -> dict[str, Any]:
    """Return ``{"made", "machine", "command", "result"}`` of a kind of job that measures."""
    text = (_MEASURED / _FILES[kind]).read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def shipped_about(kind: JobKind) -> dict[str, Any]:
    """Everything of ``shipped_record`` but the result, and the policy's name as "title"."""
    about = {name: value for name, value in shipped_record(kind).items() if name != "result"}
    return about | {"title": TITLE}
