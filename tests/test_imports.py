"""What is imported when: ``--help`` and ``import sol_core`` must not wait for the big libraries."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sol_core

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "gradio", "pandas", "numpy", "sqlalchemy", "datasets", "plotly"}
# Runs the rest of its arguments as a program and prints which modules that left behind.
SHOW = "import json, sys; exec(sys.argv.pop(1)); print(json.dumps(sorted(sys.modules)))"
HELP = """
import contextlib, io, sys
from app.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
"""
HIDDEN = """
import kernels
from kernels import quantisation_levels
if expected := %r:
    from kernels import Mode
    from kernels.layer import Mode as same
    assert Mode is same
assert quantisation_levels.__file__ == kernels.__path__[0] + "/quantisation_levels.py"
assert kernels.__version__ != "0.19.1"
assert len(kernels.__path__) == 1 + expected
kernels.nothing
"""


def _modules(code, *arguments):
    """The packages and modules that some code imports in a fresh interpreter."""
    command = [sys.executable, "-c", SHOW, code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = json.loads(done.stdout)
    return {*names, *(name.partition(".")[0] for name in names)}


@pytest.mark.parametrize("command", [(), ("train",), ("evaluate",)])
def test_help_imports_nothing_heavy(command):
    imported = _modules(HELP, *command, "--help")
    assert "app" in imported
    assert not imported & HEAVY


def test_the_library_imports_nothing_heavy_and_never_the_interface():
    light = ("Budget", "GenerationConfig", "TrainConfig", "EvaluationConfig", "load_model", "train")
    assert not _modules(f"import sol_core; from sol_core import {', '.join(light)}") & HEAVY
    every = _modules("from sol_core import *; import sol_core.api, sol_core.generation.warm_up")
    assert "torch" in every
    assert not every & {"gradio", "plotly", "pandas", "sqlalchemy", "app", "storage"}


def test_threads_are_told_not_to_spin_before_torch_comes_in():
    code = """
import os, sys
os.environ.pop("GOMP_SPINCOUNT", None)
import sol_core
assert "GOMP_SPINCOUNT" not in os.environ
sys.meta_path.insert(0, type("Finder", (), {"find_spec": staticmethod(
    lambda name, *rest: seen.append(os.environ.get("GOMP_SPINCOUNT")) if name == "torch" else None
)}))
seen = []
sol_core.Policy
assert seen == ["1000"], seen
"""
    assert "torch" in _modules(code)


def test_the_engine_needs_no_package_that_the_app_adds():
    """All of it is imported where those packages cannot be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    added = [Requirement(text).name for text in project["optional-dependencies"]["app"]]
    assert {"gradio", "plotly", "sqlalchemy"} <= set(added)
    assert not set(added) & {Requirement(text).name for text in project["dependencies"]}
    code = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import sol_core
for found in pkgutil.walk_packages(sol_core.__path__, "sol_core."):
    if found.name != "sol_core.lm_eval_model":
        importlib.import_module(found.name)
"""
    own = [name for name in added if name != "httpx"]  # huggingface_hub brings it
    assert "sol_core.lens.engine" in _modules(code, *own)


def test_every_public_name_is_there_and_unknown_ones_are_refused():
    assert set(sol_core.__all__) <= set(dir(sol_core))
    homes = sol_core._HOMES
    assert set(homes) == set(sol_core.__all__) - {"__version__"}
    for name, home in homes.items():
        module = importlib.import_module(f"sol_core.{home}")
        assert getattr(sol_core, name) is getattr(module, name)
        # A package lists what it offers; any other module offers what it defines itself.
        offered = getattr(module, "__all__", None)
        assert name in offered if offered else getattr(module, name).__module__ == module.__name__
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        sol_core.bogus  # noqa: B018  # looking it up is the test


def test_a_model_is_loaded_without_transformers(tmp_path):
    """Its tokenizer is read without it, half a second."""
    from tests.support.tiny_language_model import save_model_folder

    save_model_folder(tmp_path, "llama-gqa-tied", starts=False)
    code = """
import sys, pathlib
from sol_core.models.loading import load_language_model
folder = pathlib.Path(sys.argv[1])
load_language_model(str(folder), data_dir=folder, dtype="float32", device="cpu")
"""
    found = _modules(code, str(tmp_path))
    assert "torch" in found
    assert not found & {"transformers", "torch.distributed.tensor"}


@pytest.fixture
def hugging_face_kernels(tmp_path):
    """A folder with ``kernels`` 0.19 as it is built: its modules import each other in full."""
    metadata = tmp_path / "kernels-0.19.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.19.1\n")
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("from kernels.layer import Mode\n__version__ = '0.19.1'\n")
    (package / "layer.py").write_text("class Mode: pass\n")
    (package / "quantisation_levels.py").write_text("raise ImportError('ours comes first')\n")
    return tmp_path


@pytest.mark.parametrize("installed", [True, False])
def test_names_of_a_hidden_package_are_handed_on(hugging_face_kernels, installed):
    """transformers 5.25 imports classes from it; earlier ones do without."""
    folders = [str(ROOT), str(hugging_face_kernels)] if installed else [str(ROOT)]
    run = subprocess.run(
        [sys.executable, "-S", "-c", HIDDEN % installed],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        cwd=hugging_face_kernels.parent,
    )
    assert "has no attribute 'nothing'" in run.stderr, run.stderr
