"""Run pip, or another command of the set-up; the last line of a failure is the reason given."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.host.errors import BootstrapError

UNWANTED_VARIABLES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")


def run_pip(
    python: Path, arguments: Sequence[str], variables: Mapping[str, str], log: Path, lock: int
) -> None:
    """Install into the environment of ``python``; ``log`` gets everything that a failing pip says.

    Raises: BootstrapError with one sentence: what failed and what to do.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in UNWANTED_VARIABLES}
    command = [str(python), "-I", "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--no-warn-script-location"]
    done = run([*command, *arguments], lock, {**inherited, **variables})
    if done.returncode != 0:
        with contextlib.suppress(OSError):  # the disk may be full
            log.write_text(done.stderr, encoding="utf-8")
        raise BootstrapError(
            f"could not install the packages: {last_line(done.stderr)}; fix that and start again "
            f"(pip's output: {log})"
        )


def run(
    command: Sequence[str], lock: int, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output on stderr; errors and warnings are collected.

    It inherits the ``lock``: a killed launch may leave its pip running in the folder.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=variables,
        pass_fds=() if sys.platform == "win32" else (lock,),
        check=False,
    )


def last_line(errors: str) -> str:
    """The reason at the end of a command's errors; pip's are the last ones marked as such."""
    lines = errors.strip().splitlines() or ["the reason is above"]
    marked = [line for line in lines if line.startswith("ERROR: ")]
    return (marked or lines)[-1].removeprefix("ERROR: ")
