"""Run a Python module in a child process that cannot outlive its parent.

The child is given a pipe that the parent never writes to: when the parent ends, even by
SIGKILL, the pipe closes and the child exits. It is not the child's standard input: Windows lets
nobody ask for a file's kind while a thread reads from it, which libraries do of the standard ones,
and they waited for ever. The child's output goes to a file, so nothing of it reaches the terminal
and nothing can block on a full pipe.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2
OUTPUT_NAME = "output.log"
_PROGRESS_LINE = re.compile(r"^PROGRESS (\d\.\d+) (.+)$", re.MULTILINE)

_BOOT = """
import os, runpy, sys, threading
parents_end = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def exit_with_parent():
    while os.read(parents_end, 1):
        pass
    os._exit(1)
threading.Thread(target=exit_with_parent, daemon=True).start()
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class ChildResult:
    """Exit status of a child (negative: the signal that killed it) and its output."""

    status: int
    output: str


def run_module(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    *,
    environment: Mapping[str, str],
    on_poll: Callable[[str], None],
) -> ChildResult:
    """Run ``python -m module arguments`` and wait for it.

    Args:
        folder: where the child's output file is kept; it must exist.
        environment: variables set on top of this process's own.
        on_poll: called about five times a second with the output so far, and once when the
            child has ended; when it raises, the child is killed and the exception goes on.
    Raises: OSError when the child cannot be started.
    """
    output_path = folder / OUTPUT_NAME
    with output_path.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        )
    with process:
        try:
            while (status := _wait(process)) is None:
                on_poll(_read(output_path))
            on_poll(_read(output_path))
        except BaseException:
            process.kill()
            raise
    return ChildResult(status, _read(output_path))


def own_python_path() -> str:
    """Return the path on which the child finds this package: it may be a clone, not installed."""
    ours = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))


def report_progress(message: str, fraction: float) -> None:
    """In the child: write a line that ``reported_progress`` finds in its output."""
    sys.stdout.write(f"PROGRESS {fraction:.3f} {message}\n")
    sys.stdout.flush()


def reported_progress(output: str) -> list[tuple[str, float]]:
    """In the parent: every message and fraction the child has reported, in order."""
    return [(message, float(fraction)) for fraction, message in _PROGRESS_LINE.findall(output)]


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
