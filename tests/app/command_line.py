"""Run commands in this process, and what they leave on stdout and stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace


class Finished(SimpleNamespace):
    """Exit status and output of one command."""

    status: int
    out: str
    err: str


RunCommand = Callable[..., Finished]


def started(*arguments, **variables):
    """Python with these arguments, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def one_line(done):
    """The one line of an error; nothing else was printed."""
    assert done.out == ""
    lines = str(done.err).splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    return lines[0]
