"""Every file that the command line takes is a regular one of at most so many bytes, or is refused
in a sentence with its name, at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sol_core.errors import PolicyError
from sol_core.files.places import read_regular
from tests.app.command_line import RunCommand

COMMANDS = [
    ("train", "--config"),
    ("evaluate", "--config"),
    ("import",),
    ("policies", "import", "--any-model"),
    ("score",),
    ("inspect",),
    ("generate", "--prompts"),
    ("train", "--corpus"),
]
ZEROS = Path("/dev/zero")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_pipe_or_a_device_is_named_and_not_waited_for(
    run: RunCommand, pipe: Path, command: tuple[str, ...]
) -> None:
    for path in (pipe, ZEROS):
        done = run(*command, str(path))
        assert done.status != 0
        assert str(path) in done.err
        assert len(done.err.splitlines()) == 1
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 5000 + b"]" * 5000, "is not TOML: it is nested too deep"),
        (b"a = " + b"9" * 5000, "is not TOML: it holds a whole number of more than 4,300 digits"),
        (b"\xff\xfea", "is not TOML: 'utf-8' codec"),
        (b"#" * 1_000_001, "cannot read"),
    ],
)
def test_a_file_that_is_no_experiment_is_named(
    run: RunCommand, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "experiment.toml"
    path.write_bytes(content)
    done = run("train", "--config", str(path))
    assert (done.status, said in done.err, str(path) in done.err) == (1, True, True)


def test_a_byte_order_mark_is_no_matter(run: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_bytes(b"\xef\xbb\xbfbogus = 1\n")
    assert "bogus" in run("train", "--config", str(path)).err  # it was read


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": ' + "9" * 5000 + "}", "whole number of more than 4,300 digits"),
        ("[" * 200_000, "nested too deep"),
    ],
)
def test_json_beyond_python_is_told_in_words(
    run: RunCommand, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "cases.json"
    path.write_text(content)
    for command in (("import",), ("score",)):
        done = run(*command, str(path))
        assert said in done.err
        assert "sys." not in done.err


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    assert read_regular(path, 3) == b"123"
    for most, where in ((2, path), (9, tmp_path), (9, tmp_path / "none"), (9, Path("a\0b"))):
        with pytest.raises(OSError):  # noqa: PT011  # of many kinds
            read_regular(where, most)


def test_messages_name_what_the_user_named(tmp_path: Path, run: RunCommand) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"schema": 99}))
    (source / "model.safetensors").write_bytes(b"")
    done = run("policies", "import", str(source), "--any-model")
    assert done.status == 1
    assert str(source / "config.json") in done.err
    assert ".incoming-" not in done.err


def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path: Path, pipe: Path) -> None:
    from sol_core.policy.files import folder

    with pytest.raises(PolicyError, match="missing, truncated or damaged"):
        folder._read_weights(pipe, None, {})  # type: ignore[arg-type]  # read first
