"""Wheel and sdist: what is in them, and that the wheel works outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import sol_core

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "kernels", "sol_core", "storage")
DATA = (".js", ".mjs", ".css", ".json", ".safetensors", ".typed")
# What checks the modules of the pages is for developers.
DEVELOPMENT = re.compile(r"/app/web/(node_modules/|[^/]*\.(json|mjs)$)")
CACHES = re.compile(r"__pycache__|\.py[cod]$|\.nb[ic]$|\.egg-info/|(^|/)\.[^/]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, built from a copy: building leaves files in the source tree.

    The build backend comes from PyPI, as for everybody.
    """
    pytest.importorskip("build")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "dist"))
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "node_modules"
    )
    shutil.copytree(ROOT, source / "project", ignore=ignored)
    (source / "project" / "app" / "__pycache__").mkdir(exist_ok=True)
    (source / "project" / "app" / "__pycache__" / "old.pyc").write_bytes(b"")
    _run([sys.executable, "-m", "build", "-o", target, source / "project"], source)
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_has_every_module_and_asset_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"sol_explorer-{sol_core.__version__}.dist-info"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", *DATA) or path.name == "README.md"
        if not DEVELOPMENT.search(path.as_posix())
    }
    assert {name for name in names if not name.startswith(info)} == wanted
    assert {f"{info}/METADATA", f"{info}/entry_points.txt", f"{info}/licenses/LICENSE"} <= names
    assert not [name for name in names if CACHES.search(name)]
    assert wheel.stat().st_size < 10e6


def test_the_sdist_can_be_tested_and_carries_no_caches(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"launch.py", "README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py"}
    assert wanted | {"tests/golden/authors_nll.json", "docs/decisions.md"} <= names
    assert not [n for n in names if CACHES.search(n) and not n.startswith("sol_explorer.egg-info")]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, which finds its dependencies in this interpreter's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-" in path))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    _run([*pip, "--no-deps", "--no-index", "--no-compile", wheel], folder)
    return folder / "bin"


def test_the_command_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()  # a folder that is not meant
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    script = installed / "sol-explorer"
    assert _run([script, "--version"], tmp_path) == f"sol-explorer {sol_core.__version__}\n"
    assert "usage: sol-explorer" in _run([script, "--help"], tmp_path)
    data_dir = {"SOL_DATA_DIR": str(tmp_path / "data")}
    listed = _run([script, "policies", "list"], tmp_path, data_dir)
    assert "default" in listed, "the shipped policy is there"
    done = subprocess.run([script, "test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "repository" in done.stderr
    own = "import app.host.program as p; print(p.program_command()[1:])"
    python = installed / "python"
    assert _run([python, "-P", "-c", own], tmp_path) == "['-P', '-m', 'app']\n"
    assert "usage: sol-explorer" in _run([python, "-P", "-m", "app", "--help"], tmp_path)


def test_the_library_and_the_page_are_whole_outside_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    code = """
import sol_core
from pathlib import Path
from sol_core.policy import check_policy
from sol_core.files.places import SHIPPED_POLICY
assert sol_core.load_model and sol_core.Policy
assert check_policy(SHIPPED_POLICY).name == "default"
from app.web.assets import style_sheet
from app.web.modules import in_order
from app.setup.requirements import BASE, project_requirements
from app.host.program import PROJECT_ROOT
import app.site.ui
assert len(style_sheet("base", "controls")) > 4_000
assert len(in_order("explore/explore.js")) > 30
groups = project_requirements(PROJECT_ROOT, ("test",))
assert any(text.startswith("torch") for text in groups[BASE]), groups
assert any(text.startswith("pytest") for text in groups["test"]), groups
assert not any(text.startswith("pytest") for text in groups[BASE]), groups
print(Path(sol_core.__file__).parent)
"""
    where = _run([installed / "python", "-P", "-c", code], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def _run(command: list[object], cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
