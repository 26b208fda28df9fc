"""Run pip, or another command of the set-up, and turn its failure into one sentence.

pip shows its own progress on a terminal. What it reads from pip.conf and ``PIP_*``
(index, constraints, certificates, proxies) holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.host.errors import BootstrapError

UNWANTED_VARIABLES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
# What pip writes when it fails, and what the user can do about it; the first match counts.
DIAGNOSES = {
    "No space left on device": "the disk is full: free some space and start again",
    "ConnectionError|NameResolutionError|ProxyError|ConnectTimeout|ReadTimeout|Max retries"
    "|Network is unreachable|name resolution|Connection refused|SSLError|connection broken": (
        "the package index cannot be reached: check the network (or the proxy, or pip's "
        "index settings) and start again; what has been fetched is kept"
    ),
    "No matching distribution|requires a different Python": (
        "a package has no version for this Python or this machine, or the package index is out "
        "of reach: check the network, or try another Python, 3.11 to 3.13"
    ),
}


def run_pip(
    python: Path,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    lock: int,
) -> None:
    """Install into the environment of ``python``.

    Args:
        arguments: options and requirements.
        variables: set for pip, beside the process's own.
        log: gets everything that a failing pip says.
        lock: as for ``run``.
    Raises: BootstrapError with one sentence: what failed and what to do.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in UNWANTED_VARIABLES}
    command = [str(python), "-I", "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--no-warn-script-location"]
    done = run([*command, *arguments], lock, {**inherited, **variables})
    if done.returncode != 0:
        with contextlib.suppress(OSError):  # the disk may be full
            log.write_text(done.stderr, encoding="utf-8")
        advice = _diagnose(done.stderr)
        raise BootstrapError(f"could not install the packages: {advice} (pip's output: {log})")


def run(
    command: Sequence[str], lock: int, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output on stderr; errors and warnings are collected.

    Args:
        lock: a file descriptor that the command inherits. A killed launch may leave its pip
            running, and nobody is to empty the folder under it. Windows passes none on.
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
    """The reason at the end of a command's errors."""
    return (errors.strip().splitlines() or ["the reason is above"])[-1].removeprefix("ERROR: ")


def _diagnose(errors: str) -> str:
    for pattern, advice in DIAGNOSES.items():
        if re.search(pattern, errors, re.IGNORECASE):
            return advice
    return f"{last_line(errors)}; mend that and start again"
