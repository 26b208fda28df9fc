"""Where torch comes from: by the driver, the user's settings and the system."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from app.host.paths import DataDir
from app.setup import diagnosis, requirements
from app.setup.requirements import CPU_INDEX, CUDA_12_INDEX, needed_bytes, torch_index
from sol_core.models.devices import torch_has_gpu_code

PYTHON = Path(sys.executable)


@pytest.fixture(autouse=True)
def without_driver_and_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(requirements, "driver_cuda", lambda: (0, 0))
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.parametrize(
    ("system", "driver", "index", "size"),
    [
        ("linux", (0, 0), CPU_INDEX, 4e9),
        ("linux", (13, 0), None, 7e9),
        ("linux", (12, 2), CUDA_12_INDEX, 7e9),
        ("linux", (11, 4), CPU_INDEX, 4e9),
        ("darwin", (0, 0), None, 3e9),
    ],
)
def test_a_driver_gets_the_cuda_that_it_runs(monkeypatch, system, driver, index, size):
    monkeypatch.setattr(requirements, "driver_cuda", lambda: driver)
    monkeypatch.setattr(sys, "platform", system)
    assert torch_index(PYTHON) == index
    assert needed_bytes() == size


@pytest.mark.parametrize("name", ["INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX"])
def test_an_index_that_is_set_for_pip_holds(monkeypatch, name):
    monkeypatch.setenv(f"PIP_{name}", "1" if name == "NO_INDEX" else "http://mirror.example")
    assert torch_index(PYTHON) is None


def test_an_index_in_pips_file_holds(monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = http://mirror.example\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert torch_index(PYTHON) is None
    settings.write_text("[global]\ntimeout = 60\nfind-links = /wheels\n", encoding="utf-8")
    assert torch_index(PYTHON) == CPU_INDEX


@pytest.mark.skipif(torch_has_gpu_code(), reason="this torch has CUDA")
@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ((0, 0), ""),
        ((12, 2), "torch has no CUDA: delete .venv"),
        ((11, 4), "runs CUDA 11.4 at most, torch needs 12.0: install a newer driver"),
    ],
)
def test_doctor_says_why_a_gpu_is_left_unused(monkeypatch, tmp_path, driver, said):
    monkeypatch.setattr(requirements, "driver_cuda", lambda: driver)
    name = diagnosis.diagnose(DataDir(tmp_path), None, "auto")["device"]["name"]
    assert said in name
    assert name.startswith("cpu; " if said else "cpu")


@pytest.mark.parametrize("version", [0, 12_020])
def test_the_driver_is_asked_what_it_runs(monkeypatch, version):
    class Library:
        def cuDriverGetVersion(self, place):
            place._obj.value = version
            return 0

    def load(name):
        if version:
            return Library()
        raise OSError(f"{name}: no such file")

    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert requirements.driver_cuda() == ((12, 2) if version else (0, 0))
