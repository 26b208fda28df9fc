"""Commands of the documents parse; hashes of ``docs/reproduce.md`` are those of the texts."""

import hashlib
import re
import shlex
from pathlib import Path

import pytest

from app.cli import main as cli
from sol_core.files.assets import DEFAULT_MODEL_ASSET, EVALUATION_WHEEL
from sol_core.training.config import NOMINAL_MINUTES, PRESETS

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


def _sha256(name):
    (line,) = [line for line in DOCUMENT.splitlines() if line.startswith("|") and name in line][:1]
    found = re.search(r"`([0-9a-f]{64})`", line)
    return found[1]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_is_taken(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FILE.txt", "novels.txt", "code.txt", "kinds.jsonl"):
        (tmp_path / name).write_text("text")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "CASES.json").symlink_to(ROOT / "tests" / "golden" / "authors_nll.json")
    args = cli.parse(shlex.split(command))
    args.check(args)


def test_a_preset_takes_as_long_everywhere(capsys):
    start = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert NOMINAL_MINUTES.keys() == PRESETS.keys()
    assert f"*Quick* trains a policy in about {NOMINAL_MINUTES['quick']:g} minutes" in start
    with pytest.raises(SystemExit):
        cli.parse(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {minutes:g}" in said for name, minutes in NOMINAL_MINUTES.items())


def test_the_wheels_and_the_golden_file_have_their_hashes():
    assert _sha256(DEFAULT_MODEL_ASSET.wheel.filename) == DEFAULT_MODEL_ASSET.wheel.sha256
    assert _sha256(EVALUATION_WHEEL.filename) == EVALUATION_WHEEL.sha256
    golden = (ROOT / "tests" / "golden" / "authors_nll.json").read_bytes()
    assert _sha256("authors_nll.json") == hashlib.sha256(golden).hexdigest()
