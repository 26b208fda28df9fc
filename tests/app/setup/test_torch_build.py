"""Where torch comes from: by the driver, the user's settings and the system."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from app.host.paths import DataDir
from app.setup import diagnosis, torch_build
from app.setup.torch_build import CPU_INDEX, has_nvidia_driver, needed_bytes, torch_index
from sol_core.models.devices import torch_has_gpu_code

PYTHON = Path(sys.executable)


@pytest.fixture(autouse=True)
def without_driver_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(torch_build, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")


def test_no_driver_and_no_settings() -> None:
    assert torch_index(PYTHON) == CPU_INDEX
    assert needed_bytes() == 4e9


def test_a_driver_wants_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_build, "has_nvidia_driver", lambda: True)
    assert torch_index(PYTHON) is None
    assert needed_bytes() == 7e9


def test_pypi_has_no_cuda_for_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert torch_index(PYTHON) is None
    assert needed_bytes() == 3e9


@pytest.mark.parametrize("name", ["INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX"])
def test_an_index_that_is_set_for_pip_holds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"PIP_{name}", "1" if name == "NO_INDEX" else "http://mirror.example")
    assert torch_index(PYTHON) is None


def test_an_index_in_pips_file_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = http://mirror.example\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert torch_index(PYTHON) is None
    settings.write_text("[global]\ntimeout = 60\nfind-links = /wheels\n", encoding="utf-8")
    assert torch_index(PYTHON) == CPU_INDEX


@pytest.mark.skipif(torch_has_gpu_code(), reason="this torch has CUDA")
@pytest.mark.parametrize("is_there", [False, True])
def test_doctor_says_that_a_gpu_is_left_unused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_there: bool
) -> None:
    monkeypatch.setattr(diagnosis, "has_nvidia_driver", lambda: is_there)
    name = diagnosis.diagnose(DataDir(tmp_path), None, "auto")["device"]["name"]
    assert ("torch has no CUDA: delete .venv" in name) is is_there


@pytest.mark.parametrize("is_there", [False, True])
def test_the_driver_is_found_by_its_library(
    monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    def load(name: str) -> object:
        if is_there:
            return object()
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert has_nvidia_driver() is is_there
