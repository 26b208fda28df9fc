"""Measured results and the recording that ship with the program."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sol_core.policy.files.locate import DEFAULT_POLICY
from storage import TASKS_JOB, JobKind

SHIPPED = "shipped"  # asked for in place of a job's id
_MEASURED = Path(__file__).with_name("measured")
_FILES: dict[JobKind, str] = {"evaluate": "evaluation.json", TASKS_JOB: "accuracy.json"}


def shipped_record(kind: JobKind) -> dict[str, Any]:
    """Return ``{"made", "machine", "command", "result"}`` of a kind of job that measures."""
    return _read(_FILES[kind])


def shipped_about(kind: JobKind) -> dict[str, Any]:
    """Everything of ``shipped_record`` but the result, and the policy's name as "title"."""
    about = {name: value for name, value in shipped_record(kind).items() if name != "result"}
    return about | {"title": DEFAULT_POLICY}


def shipped_recording() -> dict[str, Any]:
    """One prompt under budgets from all to little; ``recorder.py`` of the tests describes it."""
    return _read("recording.json")


def prompt_of(story: str, question: str, stem: str) -> str:
    """The recording's text, continued with an answer; ``recording.js`` says the same."""
    return f"{story}\n\nQuestion: {question}\nAnswer: {stem}"


@cache
def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((_MEASURED / name).read_text(encoding="utf-8"))
    return record
