"""The built-in texts of the Compare page, by the default model's tokens."""

from __future__ import annotations

import pytest

from app.challenges.desk import MAX_STEPS, MAX_TOKENS, MIN_CONTEXT, pieces_of
from app.challenges.texts import TEXTS
from sol_core.generation.engine import encode_prompt
from sol_core.models.loading import LanguageModel


@pytest.mark.model
@pytest.mark.parametrize("entry", TEXTS, ids=lambda entry: str(entry["label"]))
def test_every_text_can_be_painted_to_the_most(
    default_model: LanguageModel, entry: dict[str, str]
) -> None:
    tokens = encode_prompt(default_model, entry["text"], chat=False)
    assert MAX_STEPS + MIN_CONTEXT <= len(tokens) <= MAX_TOKENS
    pieces = pieces_of(default_model, tokens, len(tokens) - MAX_STEPS)
    assert len(pieces) == MAX_STEPS
    assert entry["text"].endswith("".join(pieces).lstrip())
