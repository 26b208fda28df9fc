"""The ``.venv`` folder: whether it is complete, and how it is made, completed and healed.

A state file lies inside from the first moment and lists what is installed after the last, so
a killed set-up is seen as such: pip takes a package whose files were cut off half-way
for installed, hence a half-made folder is emptied and built again, never patched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.host.console import Console
from app.host.errors import BootstrapError
from app.setup.pip_install import last_line, run, run_pip
from app.setup.requirements import digest, requirement_name, unmet
from app.setup.torch_build import needed_bytes, torch_index

VENV_VARIABLE = "SOL_VENV"
STATE_FILE = "sol-environment.json"
DRAFT_FILE = f"{STATE_FILE}.draft"  # a full disk or a kill may leave it
LOCK_FILE = "sol-environment.lock"
LOG_FILE = "pip.log"
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
        """Return whether this process runs in it."""
        return Path(sys.prefix).resolve() == self.root.resolve()

    def is_ready(self, groups: Groups) -> bool:
        """Return whether every group is installed, as far as can be told without starting it."""
        if not self.python.exists():  # also: a link to a Python that has been removed
            return False
        state = self._read_state()
        if state is None:  # the user made it
            return self.is_running and not unmet(_flat(groups))
        installed = state.get("installed", {})
        return not self._python_changed(state) and all(
            installed.get(group) == digest(requirements) for group, requirements in groups.items()
        )

    def set_up(self, groups: Groups, console: Console) -> None:
        """Create or complete it, alone: a second launch waits and then finds it ready.

        Raises: BootstrapError, one sentence that says what to do.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _lock(self.root / LOCK_FILE, console) as descriptor:
                self._check_is_ours()
                if not self.is_ready(groups):
                    self._build(groups, console, descriptor)
        except OSError as error:
            raise BootstrapError(
                f"cannot write to {self.root} ({error.strerror or error}): fix that, or set "
                f"{VENV_VARIABLE} to another folder"
            ) from error

    def _build(self, groups: Groups, console: Console, lock: int) -> None:
        state = self._read_state()
        is_half_made = state is not None and "installed" not in state
        # A folder that the user filled is completed, but never emptied.
        is_ours = (
            not self._is_virtual_environment() if state is None else state.get("made_here", True)
        )
        is_outdated = is_half_made or self._python_changed(state or {})
        starts_over = not self.python.exists() or (is_ours and is_outdated)
        if starts_over:
            needed = self._check_disk()
            console.say(
                f"Setting up the Python packages in {self.root} (once; 1 to 3 GB to fetch, "
                f"up to {needed / 1e9:.0f} GB on disk, usually 2 to 10 minutes)"
            )
        else:
            console.say(f"Updating the Python packages in {self.root}")
        self._write_state({"made_here": is_ours or starts_over})
        if starts_over:
            self._create(lock)
        options = [] if console.is_terminal else ["--quiet"]
        if is_half_made and not starts_over:
            options += ["--ignore-installed"]  # its packages may be cut off half-way
        else:
            self._install_torch(groups, options, console, lock)
        self._pip([*options, *_flat(groups)], lock)
        shutil.rmtree(self.root / TEMPORARY, ignore_errors=True)
        installed = {group: digest(requirements) for group, requirements in groups.items()}
        python = _python_version() if starts_over else (state or {}).get("python")
        made = {"made_here": is_ours or starts_over, "python": python, "installed": installed}
        self._write_state(made)
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
        temporary = self.root / TEMPORARY  # the system's own is often too small for torch
        temporary.mkdir(exist_ok=True)
        variables = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        run_pip(self.python, arguments, variables, self.root / LOG_FILE, lock)

    def _check_is_ours(self) -> None:
        """Raise BootstrapError when the folder holds something that we may not empty."""
        if self._read_state() is not None or self._is_virtual_environment():
            return
        if {entry.name for entry in self.root.iterdir()} - {LOCK_FILE, DRAFT_FILE}:
            raise BootstrapError(
                f"{self.root} holds something else than a virtual environment: move it away, "
                f"or set {VENV_VARIABLE} to an empty folder"
            )

    def _check_disk(self) -> int:
        """Return the bytes that the packages need. Raises: BootstrapError when they do not fit."""
        free, needed = shutil.disk_usage(self.root).free, needed_bytes()
        if free < needed:
            raise BootstrapError(
                f"only {free / 1e9:.1f} GB are free for the packages in {self.root}, they "
                f"need {needed / 1e9:.0f} GB: free some space, or set {VENV_VARIABLE} to a "
                "folder on another disk"
            )
        return needed

    def _create(self, lock: int) -> None:
        """Empty the folder and make a fresh environment with pip in it."""
        for entry in self.root.iterdir():
            if entry.name in (STATE_FILE, LOCK_FILE):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        done = run([_base_python(), "-I", "-m", "venv", str(self.root)], lock)
        if done.returncode != 0:
            raise BootstrapError(
                f"could not create the virtual environment {self.root} with {_base_python()}: "
                f"{last_line(done.stderr)}; fix that (Debian, Ubuntu: sudo apt install "
                f"python{_python_version()}-venv) and start again"
            )

    def _python_changed(self, state: dict[str, Any]) -> bool:
        """The system's Python was upgraded under the environment; only visible from within."""
        return self.is_running and state.get("python") not in (None, _python_version())

    def _is_virtual_environment(self) -> bool:
        return (self.root / "pyvenv.cfg").is_file()

    def _read_state(self) -> dict[str, Any] | None:
        """None without a state file; an unreadable one counts as half-made."""
        try:
            state = json.loads((self.root / STATE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        is_valid = isinstance(state, dict) and isinstance(state.get("installed", {}), dict)
        return state if is_valid else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        """Replace the state file; it is on disk before this returns."""
        draft = self.root / DRAFT_FILE
        with draft.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.root / STATE_FILE)


@contextlib.contextmanager
def _lock(path: Path, console: Console) -> Iterator[int]:
    """Hold a lock that the system drops when its last holder dies; yields its descriptor.

    filelock is one of the packages that are not there yet.
    """
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
