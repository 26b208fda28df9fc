"""The processes of a trial: a page and workers, on a data directory of their own.

Nothing of the user's is touched but the database, where ``SOL_DATABASE_URL`` names one; there
the trial deletes its runs and jobs again.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.host.errors import AppError
from app.host.hosting import program_command
from app.host.paths import DataDir
from app.host.processes import read_note

START_S, END_S = 180.0, 90.0


@dataclass(frozen=True, slots=True)
class Processes:
    """What is put under load."""

    data_dir: DataDir
    server: Sequence[str]
    workers: Sequence[Sequence[str]]
    own_workers: int = 0


@contextmanager
def launched(data_dir: DataDir, model: str, dtype: str) -> Iterator[Processes]:
    """A page as users start it, with its worker and one more, on the user's models."""
    with tempfile.TemporaryDirectory(prefix="sol-load-") as folder:
        own = DataDir(Path(folder))
        own.models.symlink_to(data_dir.models)
        options = ["--data-dir", folder, "--dtype", dtype]
        page = ["serve", "--no-browser", "--port", "0", "--model", model]
        server = [*program_command(), *page, *options]
        yield Processes(own, server, [[*program_command(), "worker", *options]], own_workers=1)


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the block; asked to end afterwards, and ended when it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def address_of(data_dir: DataDir, server: subprocess.Popen[bytes]) -> str:
    """Where the page is, once it listens. Raises: AppError when it ends, or takes too long."""
    gives_up_at = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < gives_up_at:
        if url := read_note(data_dir.lock_file).get("url"):
            return str(url)
        time.sleep(0.1)
    said = (data_dir.logs / "server.out").read_text("utf-8", "replace").strip()
    raise AppError(f"the server did not start: {said[-500:] or 'it said nothing'}")
