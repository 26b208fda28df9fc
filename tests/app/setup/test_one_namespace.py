"""Imports and wheels under one name: what is rewritten, what is left alone, what is refused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.setup.wheel.one_namespace import ImportFormError, with_moved_imports

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("app", "kernels", "sol_core", "storage")
MODULE_NAME = re.compile(r"(?<![\w./])(app|kernels|storage)\.[a-z_]")

# What is inserted stands between « and ».
MOVED = [
    "import «sol_core.»kernels.cpu as x",
    "import «sol_core.»app« as app»",
    "import os, «sol_core.»app« as app», «sol_core.»storage.jobs as j",
    "from «sol_core.»kernels import a, b",
    "from «sol_core.»storage import (\n    Store,  # from kernels import x\n    app,\n)",
    "from «sol_core.»app.cli.main import *",
    "from  «sol_core.»app . cli import main",
    "from \\\r\n  «sol_core.»app import x\r\n",
    "import \\\n  «sol_core.»app as a",
    "def f():\n\tfrom «sol_core.»app import x; import «sol_core.»kernels« as kernels»",
    "é = 'ü'; from «sol_core.»app import x; import «sol_core.»kernels as é",
    "if x:\n\f    from «sol_core.»app import y",
]
KEPT = [
    "from . import app",
    "from .. import kernels",
    "from sol_core.kernels import x",
    "import sol_core.app as app",
    "import sol_core.kernels.cpu",
    "import os.path, apple, kernels_of_mine as kernels",
    "from apps.app import app",
    '"""from app import x\nimport kernels"""',
    "x = 'import app'  # from kernels import y",
    "x = f'from app import {kernels.y}'",
    "kernels.cpu(app.x, storage=app)",
]


def _before(text: str) -> str:
    return re.sub("«.*?»", "", text)


def _after(text: str) -> str:
    return re.sub("[«»]", "", text)


@pytest.mark.parametrize("text", [*MOVED, *KEPT, "\n".join([*MOVED[:5], *KEPT])])
def test_import_statements_get_the_new_name_and_all_else_is_left(text: str) -> None:
    ast.parse(_after(text))
    assert with_moved_imports(_before(text).encode(), "x.py").decode() == _after(text)
    assert with_moved_imports(_after(text).encode(), "x.py").decode() == _after(text), "and again"


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
