"""How large a folder may be, and that imports between packages go one way."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "sol_core", "kernels", "storage")
MOST = 15  # Python files in one folder
MOST_AT_THE_TOP = {"app": 6, "sol_core": 10}


def _sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def _module(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def _imported(path: Path, modules: set[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Modules of ours that a file names in imports, lazy and ``TYPE_CHECKING`` ones included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports are not used here"
            home = tuple(node.module.split("."))
            for alias in node.names:
                yield (*home, alias.name) if (*home, alias.name) in modules else home


def _edges() -> dict[tuple[tuple[str, ...], tuple[str, ...]], str]:
    """Pairs of siblings, packages or modules, of which the first imports the second; and where."""
    files = {_module(path): path for path in _sources(*PACKAGES)}
    edges = {}
    for module, path in files.items():
        for other in _imported(path, set(files)):
            shared = 0
            while module[: shared + 1] == other[: shared + 1] and shared < min(
                len(module), len(other)
            ):
                shared += 1
            if 0 < shared < min(len(module), len(other)):
                pair = (module[: shared + 1], other[: shared + 1])
                edges[pair] = f"{'.'.join(module)} imports {'.'.join(other)}"
    return edges


def test_no_two_packages_import_each_other() -> None:
    edges = _edges()
    assert len(edges) > 200, "the graph was read"
    mutual = [
        f"{said}, and {edges[other, one]}"
        for (one, other), said in edges.items()
        if (other, one) in edges and one < other
    ]
    assert mutual == []


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
