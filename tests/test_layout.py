"""Sizes of folders, and first lines of packages; import-linter checks the imports."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "sol_core", "kernels", "storage")
MOST = 15  # Python files in one folder
MOST_AT_THE_TOP = {"app": 6, "sol_core": 10}


def _sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_a_folder_is_small_enough_to_be_read_at_a_glance(package: str) -> None:
    sizes = Counter(path.parent for path in _sources(package))
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in sizes.items() if n > MOST}
    assert crowded == {}


@pytest.mark.parametrize(("package", "most"), MOST_AT_THE_TOP.items())
def test_few_files_stand_at_the_top(package: str, most: int) -> None:
    assert len(list((ROOT / package).glob("*.py"))) <= most


def test_every_package_says_what_is_in_it_and_what_is_not() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _sources("app", "sol_core", "storage")
        if path.name == "__init__.py" and len(re.findall(r"\.(?:\s|$)", _docstring(path))) < 2
    ]
    assert silent == []
