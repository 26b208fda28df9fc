"""The shipped recording: one prompt answered under budgets from all to little."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def shipped_recording() -> dict[str, Any]:
    """Return that of the default model; ``tests/app/recordings/recorder.py`` describes its JSON."""
    text = Path(__file__).with_name("shipped.json").read_text(encoding="utf-8")
    recording: dict[str, Any] = json.loads(text)
    return recording


def prompt_of(story: str, question: str, stem: str) -> str:
    """The text that the model continues with an answer; ``recording.js`` says the same."""
    return f"{story}\n\nQuestion: {question}\nAnswer: {stem}"
