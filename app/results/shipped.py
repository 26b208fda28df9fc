"""Measured results and the recordings that ship with the program."""

from __future__ import annotations

import contextlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from sol_core.config import DEFAULT_POLICY
from storage import TASKS_JOB, JobKind

SHIPPED = "shipped"  # asked for instead of a job's id
_MEASURED = Path(__file__).with_name("measured")
_FILES: dict[JobKind, str] = {"evaluate": "evaluation.json", TASKS_JOB: "accuracy.json"}


def shipped_record(kind: JobKind) -> dict[str, Any]:
    """Return ``{"made", "machine", "command", "result"}`` of a kind of job that measures."""
    return _read(_FILES[kind])


def shipped_about(kind: JobKind) -> dict[str, Any]:
    """Everything of ``shipped_record`` but the result, and the policy's name as "title"."""
    about = {name: value for name, value in shipped_record(kind).items() if name != "result"}
    return about | {"title": DEFAULT_POLICY}


def shipped_recording(dtype: str) -> dict[str, Any]:
    """One story under budgets from all to little; ``recorder.py`` of the tests describes it.

    Args:
        dtype: of the model; float16 takes the recording whose cache is as large.
    """
    return _read(recording_file(recording_name(dtype)).name)


def recording_name(dtype: str) -> str:
    """Name the recording of a dtype on this CPU: AMD and Intel sum bfloat16 in other orders."""
    if dtype == "float32":
        return dtype
    return f"bfloat16-{'amd' if 'AuthenticAMD' in _cpuinfo() else 'intel'}"


def recording_file(name: str) -> Path:
    return _MEASURED / f"recording-{name}.json"


def likely_dtype() -> str:
    """The dtype that "auto" will probably take here, known before torch is imported."""
    held = os.environ.get("ATEN_CPU_CAPABILITY", "avx512").lower()
    return "bfloat16" if "avx512_bf16" in _cpuinfo() and held.startswith("avx512") else "float32"


def prompt_of(story: str, question: str, stem: str) -> str:
    """The recording's text, continued with an answer; ``recording.js`` says the same."""
    return f"{story}\n\nQuestion: {question}\nAnswer: {stem}"


@cache
def recorded_prompts() -> frozenset[str]:
    """The texts that the opening runs live, which are nobody's own."""
    return frozenset(
        prompt_of(made["story"], asked["question"], asked["stem"])
        for made in map(shipped_recording, ("float32", "bfloat16"))
        for asked in made["questions"]
    )


@cache
def _cpuinfo() -> str:
    """Return Linux's description of the CPU; "" elsewhere."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return ""


@cache
def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((_MEASURED / name).read_text(encoding="utf-8"))
    return record
