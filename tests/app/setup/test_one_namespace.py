"""Imports and wheels under one name: what is rewritten, what is left alone, what is refused."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.setup.wheel import one_namespace
from app.setup.wheel.one_namespace import ImportFormError, move_wheel, with_moved_imports

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("app", "kernels", "sol_core", "storage")
MODULE_NAME = re.compile(r"(?<![\w./])(app|kernels|storage)\.[a-z_]")
INFO = "sol_explorer-0.1.dist-info"

# What is inserted stands between « and ».
MOVED = [
    "import «sol_core.»kernels.cpu as x",
    "import «sol_core.»kernels as k",
    "import «sol_core.»app« as app»",
    "import os, «sol_core.»app« as app», «sol_core.»storage.jobs as j",
    "from «sol_core.»kernels import a, b",
    "from «sol_core.»storage import (\n    Store,  # from kernels import x\n    app,\n)",
    "from «sol_core.»app.cli.main import *",
    "from  «sol_core.»app . cli import main",
    "from \\\n«sol_core.»app import x",
    "from \\\r\n  «sol_core.»app import x\r\n",
    "import \\\n  «sol_core.»app as a",
    "def f():\n\tfrom «sol_core.»app import x; import «sol_core.»kernels« as kernels»",
    "é = 'ü'; from «sol_core.»app import x; import «sol_core.»kernels as é",
    "if x:\n\f    from «sol_core.»app import y",
]
KEPT = [
    "from . import app",
    "from .kernels import x",
    "from .. import kernels",
    "from sol_core.kernels import x",
    "from sol_core import app",
    "import sol_core.app as app",
    "import sol_core.kernels.cpu",
    "import os.path, apple, kernels_of_mine as kernels",
    "from apps.app import app",
    "from appdirs import kernels",
    '"""from app import x\nimport kernels"""',
    "x = 'import app'  # from kernels import y",
    "x = f'from app import {kernels.y}'",
    "kernels.cpu(app.x, storage=app)",
    "print('é') # import storage",
    "",
]


def _before(text: str) -> str:
    return re.sub("«.*?»", "", text)


def _after(text: str) -> str:
    return re.sub("[«»]", "", text)


@pytest.mark.parametrize("text", MOVED)
def test_import_statements_get_the_new_name(text: str) -> None:
    ast.parse(_after(text))
    assert with_moved_imports(_before(text).encode(), "x.py").decode() == _after(text)
    assert with_moved_imports(_after(text).encode(), "x.py").decode() == _after(text), "and again"


@pytest.mark.parametrize("source", KEPT)
def test_everything_else_is_left_as_it_is(source: str) -> None:
    assert with_moved_imports(source.encode(), "x.py").decode() == source


@pytest.mark.parametrize(
    ("source", "line", "name"),
    [
        ("import kernels.cpu", 1, "kernels.cpu"),
        ("x = 1\nimport os, app.cli.main, kernels", 2, "app.cli.main"),
    ],
)
def test_an_import_that_binds_a_name_no_wheel_has_is_refused(
    source: str, line: int, name: str
) -> None:
    with pytest.raises(ImportFormError, match=rf"^a/b\.py:{line}: `import {name}` binds .* as …`"):
        with_moved_imports(source.encode(), "a/b.py")


@given(st.lists(st.tuples(st.sampled_from([*MOVED, *KEPT]), st.booleans())))
def test_statements_of_one_file_do_not_disturb_each_other(parts: list[tuple[str, bool]]) -> None:
    text = "".join(_laid_out(*part) for part in parts)
    assert with_moved_imports(_before(text).encode(), "x.py").decode() == _after(text)


def _laid_out(text: str, behind_another: bool) -> str:
    """On lines of its own, or on one line behind a statement with letters of two bytes."""
    if behind_another and "\n" not in text and "*" not in text:
        return f"if 1: x = 'é'; {text}\n"
    return f"{text}\n"


def test_no_string_of_ours_names_a_module() -> None:
    """It would be another one in a wheel: names are made of ``__name__`` instead."""
    assert MODULE_NAME.search("kernels.rotary.cpu")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text[:80]!r}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in _strings(path)
        if MODULE_NAME.search(text)
    ]
    assert found == []


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """Texts of a module, with those of f-strings, but for its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, described) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield node.lineno, str(node.value)


def _write_wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 2, 2, 0, 0, 0)), text)
    return path


def test_a_wheel_is_written_again_under_one_name(tmp_path: Path) -> None:
    old = _write_wheel(
        tmp_path / "old.whl",
        {
            f"{INFO}/RECORD": "app/__main__.py,sha256=wrong,1\n",
            "app/__main__.py": "from kernels import x\n",
            "app/web/app.js": 'import { x } from "./app.js";\n',
            "app/setup/wheel/one_namespace.py": "import setuptools\n",
            "sol_core/__init__.py": "from kernels import __version__\n",
            "kernels/__init__.py": "__version__ = '1'\n",
            "apple.py": "import app\n",
            f"{INFO}/entry_points.txt": "[console_scripts]\na = app.__main__:main\nb=apple:app\n",
            f"{INFO}/top_level.txt": "app\nkernels\nsol_core\n",
            f"{INFO}/METADATA": "Name: app\n\nfrom app import x\n",
        },
    )
    new = tmp_path / "new.whl"
    move_wheel(old, new)
    with zipfile.ZipFile(new) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
        assert {one.date_time for one in archive.infolist()} == {(2020, 2, 2, 0, 0, 0)}
    rows = list(csv.reader(files.pop(f"{INFO}/RECORD").splitlines()))
    assert files == {
        "sol_core/app/__main__.py": "from sol_core.kernels import x\n",
        "sol_core/app/web/app.js": 'import { x } from "./app.js";\n',
        "sol_core/__init__.py": "from sol_core.kernels import __version__\n",
        "sol_core/kernels/__init__.py": "__version__ = '1'\n",
        "apple.py": "import sol_core.app as app\n",
        f"{INFO}/entry_points.txt": "[console_scripts]\n"
        "a = sol_core.app.__main__:main\nb=apple:app\n",
        f"{INFO}/top_level.txt": "sol_core\n",
        f"{INFO}/METADATA": "Name: app\n\nfrom app import x\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for name, text in files.items()
    }
    wanted = [[n, f"sha256={digests[n]}", str(len(text.encode()))] for n, text in files.items()]
    assert rows == [*wanted, [f"{INFO}/RECORD", "", ""]]


def test_a_module_that_stands_there_already_is_refused(tmp_path: Path) -> None:
    old = _write_wheel(tmp_path / "old.whl", {"sol_core/app/x.py": "", "app/x.py": ""})
    with pytest.raises(ImportFormError, match=r"app/x\.py would be sol_core/app/x\.py"):
        move_wheel(old, tmp_path / "new.whl")


def test_metadata_that_is_asked_for_first_is_that_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(folder: str, settings: object) -> str:
        (Path(folder) / INFO / "licenses").mkdir(parents=True)
        (Path(folder) / INFO / "entry_points.txt").write_text("[x]\na = app.b:c\n")
        (Path(folder) / INFO / "top_level.txt").write_text("app\n")
        return INFO

    monkeypatch.setattr(one_namespace.build_meta, "prepare_metadata_for_build_wheel", prepare)
    assert one_namespace.prepare_metadata_for_build_wheel(str(tmp_path)) == INFO
    assert (tmp_path / INFO / "entry_points.txt").read_text() == "[x]\na = sol_core.app.b:c\n"
    assert (tmp_path / INFO / "top_level.txt").read_text() == "sol_core\n"
