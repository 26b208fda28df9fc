"""A module in a child process: its standard input, its output, its end."""

import pytest

from sol_core.files.fetch import run_module


def run_program(folder, program):
    (folder / "a_program.py").write_text(program, encoding="utf-8")
    result = run_module(
        "a_program", [], folder, environment={"PYTHONPATH": str(folder)}, on_poll=lambda said: None
    )
    return result.returncode, result.stdout


@pytest.mark.timeout(60)
def test_its_standard_input_is_empty_not_the_pipe_that_tells_of_the_parents_end(tmp_path):
    """On Windows a thread that reads a standard file stops whoever asks for the file's kind."""
    program = "import os, sys, stat; print(repr(sys.stdin.read()), stat.S_ISFIFO(os.fstat(0)[0]))"
    assert run_program(tmp_path, program) == (0, "'' False\n")


def test_its_output_and_status_come_back(tmp_path):
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    status, output = run_program(tmp_path, program)
    assert status == 3
    assert sorted(output.splitlines()) == ["err", "out"]
