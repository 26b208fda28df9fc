"""A library that Windows lacks, said before torch ends in a traceback."""

from __future__ import annotations

import ctypes
import platform

import pytest

from app.host.errors import BootstrapError
from app.host.paths import DataDir
from app.setup.bootstrap import ensure_environment
from app.setup.diagnosis import diagnose
from app.setup.system_libraries import missing_system_library


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that a Windows of old was asked for; it has Python's own library only."""
    names: list[str] = []

    def load(name: str) -> None:
        names.append(name)
        if name != "msvcp140.dll":
            raise FileNotFoundError(f"Could not find module '{name}'")

    monkeypatch.setattr(ctypes, "WinDLL", load, raising=False)
    return names


@pytest.mark.parametrize(("machine", "file"), [("AMD64", "x64"), ("ARM64", "arm64")])
def test_one_sentence_says_what_to_install(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, machine: str, file: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    said = missing_system_library()
    assert said is not None
    assert said.startswith("vcruntime140_threads.dll is missing, ")
    assert f"vc_redist.{file}.exe and start again" in said
    assert asked == ["msvcp140.dll", "vcruntime140_threads.dll"]


def test_a_start_is_refused_with_it_and_doctor_lists_it(
    asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(BootstrapError, match=r"^vcruntime140_threads.dll is missing"):
        ensure_environment()
    findings = diagnose(DataDir(tmp_path_factory.mktemp("data")), None, "auto")
    assert any(line.startswith("vcruntime140_threads.dll") for line in findings["missing"])
    ensure_environment(install=False)  # a question, not a start


def test_other_systems_are_asked_for_nothing() -> None:
    assert missing_system_library() is None or hasattr(ctypes, "WinDLL")
