"""Wheel and sdist: what is in them, and that the wheel works outside the checkout."""

import ast
import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sol_core
from app.setup.wheel.one_namespace import MOVED
from tests import test_readme
from tests.support.tiny_language_model import save_model_folder

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "kernels", "sol_core", "storage")
DATA = (".js", ".mjs", ".css", ".json", ".safetensors", ".typed")
# What checks the modules of the pages is for developers.
DEVELOPMENT = re.compile(r"/app/web/(node_modules/|[^/]*\.(json|mjs)$)|/app/setup/wheel/")
INFO = f"sol_explorer-{sol_core.__version__}.dist-info"
CACHES = re.compile(r"__pycache__|\.py[cod]$|\.nb[ic]$|\.egg-info/|(^|/)\.[^/]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the repository: building leaves files in the source tree."""
    copy = tmp_path_factory.mktemp("source") / "project"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "node_modules"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    (copy / "app" / "__pycache__").mkdir(exist_ok=True)
    (copy / "app" / "__pycache__" / "old.pyc").write_bytes(b"")
    return copy


@pytest.fixture(scope="module")
def built(project, tmp_path_factory):
    """A folder with both, the wheel made from the sdist."""
    pytest.importorskip("build")
    target = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "build", "-o", target, project], project.parent)
    return target


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_has_every_module_and_asset_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names} == {"sol_core", INFO}
    wanted = {
        ("sol_core/" if package in MOVED else "") + path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", *DATA) or path.name == "README.md"
        if not DEVELOPMENT.search(path.as_posix())
    }
    assert {name for name in names if not name.startswith(INFO)} == wanted
    assert {f"{INFO}/METADATA", f"{INFO}/entry_points.txt", f"{INFO}/licenses/LICENSE"} <= names
    assert not [name for name in names if CACHES.search(name)]
    assert wheel.stat().st_size < 10e6


def test_the_wheel_has_one_name_and_its_modules_differ_by_it_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files[f"{INFO}/top_level.txt"] == b"sol_core\n"
    rows = {row[0]: row[1:] for row in csv.reader(files[f"{INFO}/RECORD"].decode().splitlines())}
    assert set(rows) == set(files)
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert name.endswith("/RECORD") or rows[name] == [f"sha256={digest}", str(len(content))]
        if name.endswith(".py"):
            assert not _imported(content) & set(MOVED), name
            ours = re.sub(rf"sol_core/(?=({'|'.join(MOVED)})/)", "", name)
            back = re.sub(rf"\bsol_core\.(?=({'|'.join(MOVED)})\b)", "", content.decode())
            assert back == (ROOT / ours).read_text("utf-8"), name


def _imported(source):
    """Top-level packages that a module's import statements name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_an_editable_install_keeps_the_repositorys_layout(project, tmp_path):
    hooks = """
import one_namespace, sys
place = sys.argv[1]  # setuptools changes it
one_namespace.prepare_metadata_for_build_wheel(f"{place}/wheel")
name = one_namespace.prepare_metadata_for_build_editable(f"{place}/editable")
one_namespace.build_editable(f"{place}/editable", None, f"{place}/editable/{name}")
"""
    for kind in ("wheel", "editable"):
        (tmp_path / kind).mkdir()
    place = {"PYTHONPATH": str(project / "app" / "setup" / "wheel")}
    _run([sys.executable, "-W", "ignore", "-c", hooks, tmp_path], project, place)
    points = {kind: tmp_path / kind / INFO / "entry_points.txt" for kind in ("wheel", "editable")}
    assert "= sol_core.app.__main__:main" in points["wheel"].read_text()
    assert "= app.__main__:main" in points["editable"].read_text()
    (editable,) = (tmp_path / "editable").glob("*.whl")
    with zipfile.ZipFile(editable) as archive:
        assert "= app.__main__:main" in archive.read(f"{INFO}/entry_points.txt").decode()
        assert not [name for name in archive.namelist() if name.startswith("sol_core/")]


def test_the_sdist_can_be_tested_and_carries_no_caches(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"launch.py", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"}
    assert wanted | {"tests/golden/authors_nll.json", "docs/decisions.md"} <= names
    assert not [n for n in names if CACHES.search(n) and not n.startswith("sol_explorer.egg-info")]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel, which finds its dependencies in this interpreter's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-" in path))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    _run([*pip, "install", "--no-deps", "--no-index", "--no-compile", wheel], folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(folder / "compiled"))
        yield folder / "bin"


def _put_in_the_way(folder, *names):
    """Folders of these names that are not meant."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong one')")


def test_the_command_works_outside_the_checkout(installed, tmp_path):
    _put_in_the_way(tmp_path, "app", "sol_core")
    script, python = installed / "sol-explorer", installed / "python"
    assert _run([script, "--version"], tmp_path) == f"sol-explorer {sol_core.__version__}\n"
    data_dir = {"SOL_DATA_DIR": str(tmp_path / "data")}
    listed = _run([script, "policies", "list"], tmp_path, data_dir)
    assert "default" in listed, "the shipped policy is there"
    done = subprocess.run([script, "test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "repository" in done.stderr
    assert "usage: sol-explorer" in _run([python, "-P", "-m", "sol_core.app", "--help"], tmp_path)
    _run([python, "-P", "-m", "argcomplete._check_console_script", script], tmp_path)


def test_the_processes_that_it_starts_find_its_modules(installed, tmp_path):
    """The page's worker; the compilation of Triton's kernels, up to its arguments."""
    _put_in_the_way(tmp_path, "app", "kernels", "sol_core")
    code = """
import json, subprocess, sys
from pathlib import Path
from sol_core.app.host.paths import DataDir
from sol_core.app.jobs.supervisor import worker_command
from sol_core.app.bench import ahead_of_time
data_dir = DataDir(Path(sys.argv[1]))
print(json.dumps([worker_command(data_dir, "auto"), str(data_dir.worker_lock_file)]))
start = subprocess.Popen
def ask(command, env, **options):
    subprocess.Popen = start
    done = subprocess.run([*command, "--help"], env=env, capture_output=True, text=True)
    assert "default 80 90 100" in done.stdout, done.stderr
    sys.exit()
subprocess.Popen = ask
ahead_of_time.compile_in_child()
raise AssertionError("no child was started")
"""
    asked = [installed / "python", "-P", "-c", code, tmp_path / "data"]
    command, lock = json.loads(_run(asked, tmp_path))
    assert command[1:5] == ["-P", "-m", "sol_core.app", "worker"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as worker:
        ends_at = time.monotonic() + 120.0
        while not Path(lock).exists() and worker.poll() is None and time.monotonic() < ends_at:
            time.sleep(0.1)
        worker.terminate()
        _, said = worker.communicate(timeout=60.0)
    assert worker.returncode == 0, said


def test_the_library_and_the_page_are_whole_outside_the_checkout(installed, tmp_path):
    code = """
import importlib, pkgutil, sys
import sol_core
from sol_core.policy.files.folder import read_policy_folder
from sol_core.files.paths import SHIPPED_POLICY
from sol_core.app.web.assets import style_sheet, terms
from sol_core.app.web.assets import in_order
from sol_core.app.setup.requirements import project_requirements
from sol_core.app.host.environment import SOURCES
from sol_core.app.host.hosting import PROJECT_ROOT
from sol_core.app.results.shipped import shipped_record, shipped_recording
assert read_policy_folder(SHIPPED_POLICY).info.name == "default"
assert terms() and shipped_record("evaluate")
assert shipped_recording("bfloat16") != shipped_recording("float32")
assert len(list(SOURCES.rglob("*.py"))) > 60, "the cache is named after the kernels"
assert len(style_sheet("base", "controls")) > 4_000
assert len(in_order("explore/explore.js")) > 30
needed = " ".join(project_requirements(PROJECT_ROOT))
assert "torch" in needed and "gradio" in needed and "pytest" not in needed, needed
for found in pkgutil.walk_packages(sol_core.__path__, "sol_core."):
    importlib.import_module(found.name)
assert not {"app", "kernels", "storage"} & set(sys.modules)
print(sol_core.__file__)
"""
    where = _run([installed / "python", "-P", "-c", code], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


DECODE = """
import sys
from sol_core import Action, GenerationConfig, generate
from sol_core.kernels.decode_layer import few_row_kernel
from sol_core.kernels.policy_step import policy_step_kernel
from sol_core.models.loading import load_language_model
model = load_language_model(sys.argv[1], data_dir=sys.argv[1], dtype="float32", device="cpu")
config = GenerationConfig(max_new_tokens=2)
made = generate(model, "Why?", lambda seen: Action(0.5, 0.5, 8), config=config)
assert len(made.tokens) == 2
assert few_row_kernel() is not None and policy_step_kernel() is not None
assert "kernels" not in sys.modules
"""


def test_it_decodes_with_its_own_kernels_beside_another_package_of_that_name(installed, tmp_path):
    """Hugging Face has one, which lies beside ours."""
    (site,) = installed.parent.glob("lib/python*/site-packages")
    _put_in_the_way(site, "kernels")
    model = save_model_folder(tmp_path / "tiny", "llama-gqa-tied", starts=False)
    places = {"SOL_DATA_DIR": str(tmp_path / "d")}
    _run([installed / "python", "-P", "-c", DECODE, model], tmp_path, places)
    compiled = {path.name.partition("-")[0] for path in installed.parent.rglob("*.nbi")}
    assert "step.run_member" in compiled
    doctor = _run([installed / "sol-explorer", "doctor"], tmp_path, places)
    assert "Nothing is missing" in doctor
    pip = [sys.executable, "-m", "pip", "--python", installed / "python"]
    _run([*pip, "uninstall", "-y", "sol-explorer"], tmp_path)
    assert not (site / "sol_core").exists()
    assert (site / "kernels").exists()


@pytest.fixture(scope="module")
def declared_only(wheel, tmp_path_factory):
    """An empty environment with the wheel and what it says that it needs, and nothing else.

    The packages are this interpreter's, linked: what pip would download is not the point.
    """
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    _run([*pip, "install", "--no-deps", "--no-index", "--no-compile", wheel], folder)
    for distribution in _needed(metadata.Distribution.at(site / INFO)):
        for name in {Path(path).parts[0] for path in distribution.files or ()} - {".."}:
            linked = site / name
            if not linked.exists() and name != "__pycache__":
                linked.symlink_to(distribution.locate_file(name))
    assert "No broken requirements" in _run([*pip, "check"], folder)
    return folder / "bin" / "python"


def _needed(distribution):
    """The distributions that one requires, here, without extras of its own, each once."""
    seen = set()
    waiting = [(distribution, frozenset())]
    while waiting:
        current, extras = waiting.pop()
        for requirement in map(Requirement, current.requires or ()):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                continue
            needed, wanted = requirement.name, frozenset(requirement.extras)
            if (needed, wanted) not in seen:
                seen.add((needed, wanted))
                found = metadata.distribution(needed)
                waiting.append((found, wanted))
                yield found


@pytest.mark.model
@pytest.mark.timeout(1800)  # its kernels are compiled first
def test_the_readmes_snippet_runs_with_what_the_wheel_declares(
    declared_only, model_data_dir, tmp_path
):
    code = "\n".join(test_readme.shortened(test_readme.BLOCKS))
    places = {"SOL_DATA_DIR": str(model_data_dir), "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    code += "\nprint(made._repr_html_()[:40], result._repr_html_()[:3])"
    said = _run([declared_only, "-P", "-c", code], tmp_path, places)
    assert "<iframe srcdoc=" in said
    assert "<p>" in said
    assert "Spend(keep_fraction=" in said
    assert (tmp_path / "my-policy" / "model.safetensors").is_file()
    with pytest.raises(AssertionError, match="No module named 'gradio'"):
        _run([declared_only, "-P", "-c", "import gradio"], tmp_path)


def test_the_citation_names_this_release():
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {sol_core.__version__}\n" in cited
    assert f"**SOL Explorer {sol_core.__version__}**" in (ROOT / "docs" / "release.md").read_text()


def _run(command, cwd, variables=None):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**kept, **(variables or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
