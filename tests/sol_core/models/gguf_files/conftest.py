"""Conversions in the tests' own process."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sol_core.files import gguf_folder
from sol_core.files.gguf_conversion import convert_gguf


@pytest.fixture
def conversions(monkeypatch):
    """The files of which conversions were made, here instead of in a child process."""
    done = []

    def convert(module, given, *_, **__):
        assert module == convert_gguf.__module__
        done.append(Path(given[0]))
        convert_gguf(Path(given[0]), Path(given[1]), *given[2:])
        return CompletedProcess([], 0, "")

    monkeypatch.setattr(gguf_folder, "run_module", convert)
    return done
