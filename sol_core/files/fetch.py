"""Fetches a pinned wheel from PyPI: the file is either absent or has the right SHA-256.

``pip download`` does the transfer, so the user's index, proxy and certificates apply. The child
process exits with its parent, when a pipe from it closes. The child duplicates the pipe from
standard input: Windows cannot query the type of standard input while a thread reads it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sol_core.errors import DownloadError
from sol_core.files.staging import check_free_space, make_once, sha256_of, storing
from sol_core.progress import Progress, ignore_progress, megabytes

logger = logging.getLogger(__name__)
# This program writes to its data directory only, so pip keeps no cache.
_PIP_DOWNLOAD = (
    "download --no-deps --only-binary=:all: --ignore-requires-python --no-cache-dir --no-input "
    "--progress-bar=off --disable-pip-version-check"
)
# Patterns of pip's output after a failed download, the most specific first, with explanations.
_REASONS = (
    (r"No module named pip", "pip is missing from this Python (try: python -m ensurepip)"),
    (
        r"(?s)DO NOT MATCH THE HASHES.*?Got\s+([0-9a-f]{64})",
        "the downloaded {file} was thrown away: its SHA-256 is {digest}, expected {sha256}",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: free some space or use another --data-dir",
    ),
    (
        r"Retrying \(Retry|Max retries exceeded|NewConnectionError|NameResolutionError"
        r"|Connection(Reset|Refused|Aborted)?Error|ReadTimeoutError|ConnectTimeoutError|ProxyError"
        r"|SSLError|ProtocolError|IncompleteRead|HTTP error \d+|Connection broken|timed out",
        "PyPI could not be reached for {name}: check the network, proxy or pip's index",
    ),
    (
        r"No matching distribution|Could not find a version",
        "the package index offers no {name}: check pip's index-url setting",
    ),
)
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
class PinnedWheel:
    """A file on PyPI with a known checksum."""

    project: str
    version: str
    filename: str
    sha256: str  # hex digest
    num_bytes: int  # for the progress bar and the disk check


def fetch_wheel(wheel: PinnedWheel, folder: Path, on_progress: Progress = ignore_progress) -> Path:
    """Return the wheel's path in ``folder``, downloaded if missing."""
    target, deleted = folder / wheel.filename, ""

    def is_there() -> bool:
        nonlocal deleted
        if target.exists() and (digest := sha256_of(target)) != wheel.sha256:
            target.unlink()
            deleted = f"SHA-256 {digest} instead of {wheel.sha256} and was deleted"
            logger.warning("%s had %s", target, deleted)
        return target.exists()

    def download(staging: Path) -> Path:
        check_free_space(folder, 2 * wheel.num_bytes)  # pip downloads, then copies
        try:
            return _run_pip(wheel, staging, on_progress)
        except DownloadError as error:
            remedy = f"Start again, or put {wheel.filename} from PyPI into {folder}"
            before = f" (the file there had {deleted})" if deleted else ""
            raise DownloadError(f"{error}. {remedy}{before}") from error

    with storing(wheel.filename, folder, DownloadError):
        make_once(target, is_there, download, on_progress)
    on_progress(f"{wheel.filename} is there", 1.0)
    return target


def _run_pip(wheel: PinnedWheel, staging: Path, on_progress: Progress) -> Path:
    """Return the downloaded file; pip has checked its SHA-256."""
    requirement = f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
    requirements, destination, scratch = (
        staging / name for name in ("requirements.txt", "wheel", "scratch")
    )
    requirements.write_text(requirement, encoding="utf-8")
    scratch.mkdir()

    def report(_output: str) -> None:
        fetched = min(_fetched_bytes(staging), wheel.num_bytes)
        on_progress(
            f"Downloading {wheel.filename}: {megabytes(fetched)} of {megabytes(wheel.num_bytes)}",
            fetched / wheel.num_bytes,
        )

    report("")
    result = run_module(
        "pip",
        [*_PIP_DOWNLOAD.split(), "--dest", str(destination), "--requirement", str(requirements)],
        staging,
        environment={key: str(scratch) for key in ("TMPDIR", "TMP", "TEMP")},
        on_poll=report,
    )
    wheels = sorted(destination.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        logger.info("pip download of %s failed:\n%s", wheel.project, result.stdout)
        raise DownloadError(_explain(result.stdout, wheel))
    return wheels[0]


def _explain(output: str, wheel: PinnedWheel) -> str:
    name = f"{wheel.project} {wheel.version}"
    for pattern, words in _REASONS:
        if match := re.search(pattern, output):
            digest = match[match.lastindex or 0]
            return words.format(name=name, file=wheel.filename, sha256=wheel.sha256, digest=digest)
    return f"pip could not fetch {name}: {last_line(output)}"


def _fetched_bytes(folder: Path) -> int:
    """Return the size of the biggest (partial) wheel below ``folder``; pip moves it meanwhile."""
    largest = 0
    # Unlike rglob, os.walk skips folders that vanish meanwhile.
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    largest = max(largest, (Path(parent) / name).stat().st_size)
    return largest


def run_module(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    *,
    environment: Mapping[str, str],
    on_poll: Callable[[str], None],
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module arguments`` and wait; its output goes to a file in ``folder``."""
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
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                on_poll(_read_output(output_path))
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, _read_output(output_path))


def own_python_path() -> str:
    """Return the PYTHONPATH for the child: this package may be a clone, not installed."""
    ours = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))


def report_progress(message: str, fraction: float) -> None:
    """Print a progress line, in the child, for ``reported_progress``."""
    sys.stdout.write(f"PROGRESS {fraction:.3f} {message}\n")
    sys.stdout.flush()


def reported_progress(output: str) -> list[tuple[str, float]]:
    """Return all messages and fractions that the child reported, in order."""
    return [(message, float(fraction)) for fraction, message in _PROGRESS_LINE.findall(output)]


def last_line(output: str) -> str:
    """Return the last non-empty line."""
    return ([line for line in output.splitlines() if line.strip()] or ["no output"])[-1]


def _read_output(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
