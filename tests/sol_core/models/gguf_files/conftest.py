"""Conversions in the tests' own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from sol_core.files import gguf_folder
from tests.sol_core.models.gguf_files.gguf_cases import Converter


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of which conversions were made, here instead of in a child process."""
    converter = Converter()
    monkeypatch.setattr(gguf_folder, "run_module", converter)
    return converter.done
