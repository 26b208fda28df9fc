"""Output of the command line: results on stdout, progress and remarks on stderr.

On a terminal progress is one line that rewrites itself. Standard library only, as what it imports.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sol_core.files.staging import replacing


def write_out(text: str) -> None:
    """Write a result to stdout and flush, so that a reader sees tokens as they come."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_file(path: Path, data: bytes) -> None:
    """Write a result to a file, whole or not at all; into a pipe or a device as it comes."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with replacing(path.resolve()) as staged:
        staged.write_bytes(data)


class Console:
    """Progress and remarks, on stderr."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._status_shown = False
        self._last_message = ""

    @property
    def is_terminal(self) -> bool:
        return self._stream.isatty()

    def say(self, text: str) -> None:
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def status(self, text: str) -> None:
        """Show a passing state: rewrites the line on a terminal, does nothing elsewhere."""
        if not self.is_terminal:
            return
        width = max(20, shutil.get_terminal_size().columns - 1)
        self._stream.write(f"\r\x1b[2K{text[:width]}")
        self._stream.flush()
        self._status_shown = True

    def progress(self, message: str, fraction: float | None = None) -> None:
        """The engine's progress callback; ``fraction`` is in [0, 1]."""
        if self.is_terminal:
            self.status(message if fraction is None else f"{message} {round(100 * fraction)} %")
        elif message != self._last_message:
            self.say(message)
        self._last_message = message

    def clear(self) -> None:
        """Remove the passing state, so that what follows starts on an empty line."""
        if self._status_shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._status_shown = False
