"""Run pip in an environment, show condensed progress, and turn its failure into one sentence.

pip's whole output goes to ``pip.log`` in the environment. Its cache and its temporary
files stay there too: nothing is written elsewhere, and /tmp is often too small for torch.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from app.console import Console
from app.errors import BootstrapError
from app.provision.virtual_environment import VirtualEnvironment

__all__ = ["install_packages"]

LOG_FILE = "pip.log"
SHOWN_MEGABYTES = 20.0  # smaller downloads are not worth a line
UNWANTED_VARIABLES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
DOWNLOADING = re.compile(r"\s*(?:Downloading|Using cached) (\S+).*\(([\d.]+) (kB|MB|GB)\)")
COLLECTING = re.compile(r"\s*Collecting ([A-Za-z0-9._-]+)")
INSTALLING = re.compile(r"\s*Installing collected packages: (.*)")
# What pip says, and what the user can do about it; the first match counts.
DIAGNOSES = (
    (
        re.compile(r"No space left on device", re.IGNORECASE),
        "the disk is full: free some space and start again",
    ),
    (
        re.compile(
            r"NewConnectionError|NameResolutionError|ProxyError|ConnectTimeout|ReadTimeout"
            r"|Network is unreachable|name resolution|Max retries exceeded|Connection refused"
            r"|SSLError|connection broken",
            re.IGNORECASE,
        ),
        "the package index cannot be reached: check the network (or the proxy, or pip's "
        "index settings) and start again; what has been fetched is kept",
    ),
    (
        re.compile(r"from versions: none"),
        "the package index is out of reach, or has nothing for this Python: check the network, "
        "or start with another Python, 3.11 to 3.13",
    ),
    (
        re.compile(r"No matching distribution|requires a different Python", re.IGNORECASE),
        "a package has no version for this Python or this machine: try another Python, "
        "3.11 to 3.13",
    ),
)


def install_packages(
    environment: VirtualEnvironment,
    requirements: Sequence[str],
    console: Console,
    *,
    keep_downloads: bool,
    reinstall: bool = False,
    inherited: Sequence[int] = (),
) -> None:
    """Install ``requirements`` into the environment.

    Args:
        keep_downloads: keep what is fetched until the end, so that a killed set-up resumes;
            needs the disk space twice.
        reinstall: do not trust what seems to be installed.
        inherited: file descriptors that pip keeps open (the bootstrap's lock).
    Raises: BootstrapError with one sentence: what failed and what to do.
    """
    environment.temporary.mkdir(exist_ok=True)
    command = [str(environment.python), "-I", "-m", "pip", "install"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--no-warn-script-location"]
    command += ["--force-reinstall"] if reinstall else []
    command += requirements
    log_path = environment.root / LOG_FILE
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_pip_variables(environment, keep_downloads),
            pass_fds=tuple(inherited),
        ) as pip,
        _Progress(console) as progress,
    ):
        assert pip.stdout is not None  # asked for above
        _follow(pip.stdout, log, progress)
    if pip.returncode != 0:
        raise BootstrapError(_diagnose(log_path))


def _pip_variables(environment: VirtualEnvironment, keep_downloads: bool) -> dict[str, str]:
    variables = {k: v for k, v in os.environ.items() if k not in UNWANTED_VARIABLES}
    variables |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(environment.temporary))
    if "PIP_CACHE_DIR" not in variables and "PIP_NO_CACHE_DIR" not in variables:
        choice = ("PIP_CACHE_DIR", str(environment.downloads))
        name, value = choice if keep_downloads else ("PIP_NO_CACHE_DIR", "1")
        variables[name] = value
    return variables


def _follow(lines: Iterable[str], log: TextIO, progress: _Progress) -> None:
    for line in lines:
        log.write(line)
        log.flush()
        progress.take(line)


def _diagnose(log_path: Path) -> str:
    text = log_path.read_text(encoding="utf-8", errors="replace")
    for pattern, advice in DIAGNOSES:
        if pattern.search(text):
            return f"could not install the packages: {advice} (pip's output: {log_path})"
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    reason = (errors or text.splitlines() or ["pip said nothing"])[-1].removeprefix("ERROR: ")
    return f"could not install the packages: {reason} (pip's whole output: {log_path})"


class _Progress:
    """Large downloads and the installation as lines, everything else as a passing state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._doing = "asking the package index"
        self._num_collected = 0
        self._guard = threading.Lock()  # the ticker and pip's lines share the console
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> _Progress:
        if self._console.is_terminal:
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self._console.clear()

    def take(self, line: str) -> None:
        """Look at one line of pip's output."""
        with self._guard:
            if found := DOWNLOADING.match(line):
                self._doing = f"fetching {_short(found[1])}"
                megabytes = float(found[2]) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[found[3]]
                if megabytes >= SHOWN_MEGABYTES:
                    self._console.say(f"  {self._doing} ({megabytes:.0f} MB)")
            elif found := COLLECTING.match(line):
                self._num_collected += 1
                self._doing = f"looking at {found[1]}"
            elif found := INSTALLING.match(line):
                self._doing = f"unpacking {len(found[1].split(','))} packages"
                self._console.say(f"  {self._doing}")
            self._show()

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            with self._guard:
                self._show()

    def _show(self) -> None:
        seconds = time.monotonic() - self._began
        self._console.status(f"  {seconds:4.0f} s, {self._num_collected} packages: {self._doing}")


def _short(file_name: str) -> str:
    """``torch-2.9.0-cp311-...whl`` or its address → ``torch-2.9.0``."""
    return "-".join(file_name.rsplit("/", 1)[-1].split("-")[:2])
