"""Check the English of documents, docstrings and the page's texts: proselint and a house list.

Prints one line for each finding and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__
from proselint.config import load_from
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "kernels", "sol_core", "storage")
HOUSE_LIST = {
    r"anew": "again",
    r"(?:gave|give|gives|giving) up": "time out, or stop",
    r"in the midst": "during",
    r"in vain": "without effect",
    r"is to be": "must be, or is",
    r"(?:make|makes|made) good": "compensate",
    r"mend(?:s|ed|ing)?": "fix",
    r"whoever(?! has the link)": "anyone who, or the owner",
}
# Texts of the page: whole sentences in its modules.
SENTENCE = re.compile(r"([\"'`])([A-Z](?:(?!\1)[^\n]){20,}[.?!])\1")


def texts() -> Iterator[tuple[Path, str]]:
    """Every text with its file."""
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        yield path, path.read_text("utf-8")
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, "\n\n".join(docstrings(path))
    for path in sorted((ROOT / "app" / "web" / "js").rglob("*.js")):
        yield path, "\n\n".join(match[2] for match in SENTENCE.finditer(path.read_text("utf-8")))
    glossary = ROOT / "app" / "web" / "glossary" / "terms.json"
    terms = json.loads(glossary.read_text("utf-8")).values()
    yield glossary, "\n\n".join(term["text"] for term in terms)
    lessons = ROOT / "app" / "lessons" / "lessons.json"
    parts = (
        part
        for lesson in json.loads(lessons.read_text("utf-8")).values()
        for part in lesson.values()
    )
    yield (
        lessons,
        "\n\n".join(text for part in parts for text in ([part] if isinstance(part, str) else part)),
    )


def docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a module and of everything in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def main() -> int:
    """Print all findings; returns the exit status."""
    CheckRegistry().register_many(__register__)
    settings = load_from(ROOT / ".ci" / "proselint.json")
    findings = []
    for path, text in texts():
        place = path.relative_to(ROOT)
        if not text.strip():
            continue
        for result in LintFile(str(place), text).lint(settings):
            start, end = result.check_result.span
            words = text[start - 1 : end - 1]  # proselint puts a line break in front
            findings.append(f"{place}: '{words}': {result.check_result.message}")
        for pattern, use in HOUSE_LIST.items():
            for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
                findings.append(f"{place}: '{match[0]}': write {use}")
    sys.stdout.write("\n".join(findings or ["All prose checks passed"]) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
