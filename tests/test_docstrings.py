"""Rule of the docstrings: a verb or a noun of the field comes first, not a question word."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "kernels", "sol_core", "storage")
QUESTION_WORDS = {"How", "What", "When", "Where", "Whether", "Which", "Who", "Whose", "Why"}


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Every docstring of a file with its place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield f"{path.relative_to(ROOT)}:{node.body[0].lineno}", text


def test_no_docstring_begins_with_a_question_word() -> None:
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    found = [entry for path in files for entry in _docstrings(path)]
    assert len(found) > 1000
    assert [place for place, text in found if text.split()[0] in QUESTION_WORDS] == []
