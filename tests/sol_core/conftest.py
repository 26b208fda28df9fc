"""A tiny model for the tests of a file, which do not change it."""

from __future__ import annotations

import pytest

from sol_core.models.loading import LanguageModel
from tests.support.tiny_language_model import make_language_model


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()
