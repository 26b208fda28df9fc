"""The ``.venv`` folder: whether it is complete, and how it is made and completed.

A marker, written last, lists what is installed; without it the folder is emptied and built again.
Only a folder with our lock is emptied: an environment that the user made is theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.host.console import Console
from app.host.errors import BootstrapError, system_errors
from app.setup.requirements import digest, needed_bytes, requirement_name, torch_index, unmet
from sol_core.files.paths import read_json_object

VENV_VARIABLE = "SOL_VENV"
MARKER_FILE = "sol-environment.json"
LOCK_FILE = "sol-environment.lock"
LOG_FILE = "pip.log"
UNWANTED_VARIABLES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
TEMPORARY = "tmp"
PATIENCE = ("--retries", "1", "--timeout", "15")  # with an index that need not be reached

Groups = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment at ``root``, which need not exist yet."""

    root: Path

    @classmethod
    def locate(cls, project_root: Path) -> VirtualEnvironment:
        """The project's environment: ``SOL_VENV``, or ``.venv`` beside ``launch.py``."""
        chosen = os.environ.get(VENV_VARIABLE, "").strip()
        return cls(Path(chosen).expanduser().absolute() if chosen else project_root / ".venv")

    @property
    def python(self) -> Path:
        if sys.platform == "win32":
            return self.root / "Scripts" / "python.exe"
        return self.root / "bin" / "python"

    @property
    def is_running(self) -> bool:
        return Path(sys.prefix).resolve() == self.root.resolve()

    def is_ready(self, groups: Groups) -> bool:
        """Return whether every group is installed, as far as can be told without starting it."""
        if not self.python.exists():  # also: a link to a Python that has been removed
            return False
        marker = self._read_marker()
        if marker is None:
            return self.is_running and not self._is_ours() and not unmet(_flat(groups))
        installed = marker["installed"]
        return not self._python_changed(marker) and all(
            installed.get(group) == digest(requirements) for group, requirements in groups.items()
        )

    def set_up(self, groups: Groups, console: Console) -> None:
        """Create or complete it, alone: another launch waits. Raises: BootstrapError."""
        remedy = f"; fix that, or set {VENV_VARIABLE} to another folder"
        with system_errors(f"cannot write to {self.root}", BootstrapError, remedy):
            self.root.mkdir(parents=True, exist_ok=True)
            if not self._is_ours():
                raise BootstrapError(
                    f"{self.root} holds something else than this program's packages: start with "
                    f"the Python in it, move it away, or set {VENV_VARIABLE} to an empty folder"
                )
            with _lock(self.root / LOCK_FILE, console) as descriptor:
                if not self.is_ready(groups):
                    self._build(groups, console, descriptor)

    def _build(self, groups: Groups, console: Console, lock: int) -> None:
        marker = self._read_marker()
        starts_over = not (marker and self.python.exists()) or self._python_changed(marker)
        if starts_over:
            free, needed = shutil.disk_usage(self.root).free, needed_bytes()
            if free < needed:
                raise BootstrapError(
                    f"only {free / 1e9:.1f} GB are free for the packages in {self.root}, they "
                    f"need {needed / 1e9:.0f} GB: free some space, or set {VENV_VARIABLE} to a "
                    "folder on another disk"
                )
            console.say(
                f"Setting up the Python packages in {self.root} (once; 1 to 3 GB to fetch, "
                f"up to {needed / 1e9:.0f} GB on disk, usually 2 to 10 minutes)"
            )
        else:
            console.say(f"Updating the Python packages in {self.root}")
        self._marker.unlink(missing_ok=True)  # before anything that a kill could leave half done
        if starts_over:
            self._create(lock)
        options = [] if console.is_terminal else ["--quiet"]
        self._install_torch(groups, options, console, lock)
        self._pip([*options, *_flat(groups)], lock)
        shutil.rmtree(self.root / TEMPORARY, ignore_errors=True)
        installed = {group: digest(requirements) for group, requirements in groups.items()}
        python = _python_version() if starts_over else (marker or {}).get("python")
        made = {"python": python, "installed": installed}
        self._marker.write_text(json.dumps(made), encoding="utf-8")
        console.say("The packages are ready.")

    def _install_torch(
        self, groups: Groups, options: Sequence[str], console: Console, lock: int
    ) -> None:
        """Install torch from the index that ``torch_index`` names, if any; say so if it fails."""
        torch = [text for text in _flat(groups) if requirement_name(text) == "torch"]
        index = torch_index(self.python) if torch else None
        if index is None:
            return
        try:
            self._pip([*options, "--no-deps", "--index-url", index, *PATIENCE, *torch], lock)
        except BootstrapError:
            console.say(f"No torch from {index}: taking pip's own, which may bring 3 GB of CUDA.")

    def _pip(self, arguments: Sequence[str], lock: int) -> None:
        """Install; the log gets everything that a failing pip says. Raises: BootstrapError."""
        temporary = self.root / TEMPORARY  # the system's own is often too small for torch
        temporary.mkdir(exist_ok=True)
        variables = {k: v for k, v in os.environ.items() if k not in UNWANTED_VARIABLES}
        variables |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        command = [str(self.python), "-I", "-m", "pip", "install", "--no-input"]
        command += ["--disable-pip-version-check", "--no-warn-script-location"]
        done = run([*command, *arguments], lock, variables)
        if done.returncode != 0:
            log = self.root / LOG_FILE
            with contextlib.suppress(OSError):  # the disk may be full
                log.write_text(done.stderr, encoding="utf-8")
            raise BootstrapError(
                f"could not install the packages: {_last_line(done.stderr)}; fix that and start "
                f"again (pip's output: {log})"
            )

    def _is_ours(self) -> bool:
        """Return whether the folder may be emptied: nothing else is in it, or we made what is."""
        marker = self._read_marker() or {}
        if marker.get("made_here") is False:  # a release before wrote it into the user's
            return False
        return (self.root / LOCK_FILE).exists() or not any(self.root.iterdir())

    def _create(self, lock: int) -> None:
        """Empty the folder and make a fresh environment with pip in it."""
        for entry in self.root.iterdir():
            if entry.name == LOCK_FILE:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        done = run([_base_python(), "-I", "-m", "venv", str(self.root)], lock)
        if done.returncode != 0:
            raise BootstrapError(
                f"could not create the virtual environment {self.root} with {_base_python()}: "
                f"{_last_line(done.stderr)}; fix that (Debian, Ubuntu: sudo apt install "
                f"python{_python_version()}-venv) and start again"
            )

    def _python_changed(self, marker: dict[str, Any]) -> bool:
        """The system's Python was upgraded under the environment; only visible from within."""
        return self.is_running and marker.get("python") not in (None, _python_version())

    @property
    def _marker(self) -> Path:
        return self.root / MARKER_FILE

    def _read_marker(self) -> dict[str, Any] | None:
        """Read the marker; None without a whole one."""
        marker = read_json_object(self._marker)
        return marker if isinstance(marker.get("installed"), dict) else None


def run(
    command: Sequence[str], lock: int, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run with the output on stderr; a pip that outlives a killed launch inherits the ``lock``."""
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


def _last_line(errors: str) -> str:
    """The reason at the end of a command's errors; pip's are the last ones marked as such."""
    lines = errors.strip().splitlines() or ["the reason is above"]
    marked = [line for line in lines if line.startswith("ERROR: ")]
    return (marked or lines)[-1].removeprefix("ERROR: ")


@contextlib.contextmanager
def _lock(path: Path, console: Console) -> Iterator[int]:
    """Hold a lock that the system drops when its last holder dies; yields its descriptor."""
    with path.open("ab") as file:
        if not _try_lock(file.fileno()):
            console.say("Another launch is setting up the packages; waiting for it.")
            while not _try_lock(file.fileno()):
                time.sleep(0.2)
        yield file.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _flat(groups: Groups) -> list[str]:
    return [text for group in groups.values() for text in group]


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _base_python() -> str:
    """The interpreter outside any virtual environment: ours may be the one being rebuilt."""
    # The venv module reads the same attribute; the public names only lead to a guess.
    return str(getattr(sys, "_base_executable", None) or sys.executable)
