"""Imports and wheels under one name: what is rewritten, what is left alone, what is refused."""

import ast
import re

import pytest

from app.setup.wheel.one_namespace import ImportFormError, with_moved_imports

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


def _before(text):
    return re.sub("«.*?»", "", text)


def _after(text):
    return re.sub("[«»]", "", text)


@pytest.mark.parametrize("text", [*MOVED, *KEPT, "\n".join([*MOVED[:5], *KEPT])])
def test_import_statements_get_the_new_name_and_all_else_is_left(text):
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
def test_an_import_that_binds_a_name_no_wheel_has_is_refused(source, line, name):
    with pytest.raises(ImportFormError, match=rf"^a/b\.py:{line}: `import {name}` binds .* as …`"):
        with_moved_imports(source.encode(), "a/b.py")
