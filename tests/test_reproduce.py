"""Commands of the documents parse; hashes of ``docs/reproduce.md`` are those of the texts."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import pytest

from app.cli import main as cli
from sol_core.corpus.load import load_corpus
from sol_core.files.assets import DEFAULT_MODEL_ASSET, EVALUATION_WHEEL
from sol_core.files.places import DATA_DIR_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
PROSE = "\n".join(
    path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
)
STAND_INS = ("…", "$", " I ", "my_schedules:")  # what a reader puts in
COMMANDS = [
    command
    for command in re.findall(r"(?:^|`)python launch\.py ([^`#\n]*[^`#\s])", PROSE, re.MULTILINE)
    if not any(part in command for part in STAND_INS)
]


def _sha256(name: str) -> str:
    (line,) = [line for line in DOCUMENT.splitlines() if line.startswith("|") and name in line][:1]
    found = re.search(r"`([0-9a-f]{64})`", line)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_is_taken(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FILE.txt", "novels.txt", "code.txt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "CASES.json").symlink_to(ROOT / "tests" / "golden" / "authors_nll.json")
    args = cli.parse(shlex.split(command))
    args.check(args)


def test_the_wheels_and_the_golden_file_have_their_hashes() -> None:
    assert _sha256(DEFAULT_MODEL_ASSET.wheel.filename) == DEFAULT_MODEL_ASSET.wheel.sha256
    assert _sha256(EVALUATION_WHEEL.filename) == EVALUATION_WHEEL.sha256
    golden = (ROOT / "tests" / "golden" / "authors_nll.json").read_bytes()
    assert _sha256("authors_nll.json") == hashlib.sha256(golden).hexdigest()


def _run_lines_that_write(name: str) -> None:
    """Run the document's Python that names a file, in the current folder."""
    (code,) = [
        one for one in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if name in one
    ]
    exec(compile(code, "reproduce.md", "exec"), {})


def test_technical_prose_and_code_come_from_pythons_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _run_lines_that_write("code.txt")
    for name, words in (("prose.txt", 'The "assert" statement'), ("code.txt", "def getsource(")):
        corpus = load_corpus(name, data_dir=tmp_path / "data")
        documents = list(corpus)
        assert len(documents) > 100, "enough for all texts of the command"
        assert any(words in one for one in documents) or words in Path(name).read_text("utf-8")


@pytest.mark.model
def test_the_novels_are_those_of_the_hash(
    model_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(model_data_dir))
    _run_lines_that_write("novels.txt")
    made = (tmp_path / "novels.txt").read_bytes()
    assert hashlib.sha256(made).hexdigest() == _sha256("`novels.txt`")
