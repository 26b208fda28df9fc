"""The ``.venv`` folder: is it complete, may it be rebuilt, how is it created.

A state file lies inside from the first moment and lists what is installed after the last, so
a killed set-up is seen as such: pip takes a package whose files were cut off half-way
for installed, hence a half-made folder is emptied and built again, never patched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import BootstrapError
from app.provision.requirements import digest, unmet

__all__ = ["VENV_VARIABLE", "VirtualEnvironment"]

VENV_VARIABLE = "SOL_VENV"
STATE_FILE = "sol-environment.json"
LOCK_FILE = "sol-environment.lock"
DOWNLOADS = "pip-cache"  # kept when a half-made folder is emptied: nothing is fetched twice
TEMPORARY = "tmp"
KEPT_WHEN_EMPTIED = frozenset({STATE_FILE, LOCK_FILE, DOWNLOADS})

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
    def lock_file(self) -> Path:
        return self.root / LOCK_FILE

    @property
    def downloads(self) -> Path:
        return self.root / DOWNLOADS

    @property
    def temporary(self) -> Path:
        return self.root / TEMPORARY

    @property
    def is_running(self) -> bool:
        """Whether this process runs in it."""
        return Path(sys.prefix).resolve() == self.root.resolve()

    def is_ready(self, groups: Groups) -> bool:
        """Whether every group is installed, as far as can be told without starting it."""
        if not self.python.exists():  # also: a link to a Python that has been removed
            return False
        state = self._read_state()
        if state is None:
            return self._is_virtual_environment() and not self._unmet(groups)
        installed = state.get("installed", {})
        return not self._python_changed(state) and all(
            installed.get(group) == digest(requirements) for group, requirements in groups.items()
        )

    def needs_rebuild(self) -> bool:
        """Whether it must be made from nothing: absent, half-made, or its Python is gone."""
        state = self._read_state()
        if not self.python.exists():
            return True
        if state is None:
            return not self._is_virtual_environment()
        return state.get("made_here", True) and (
            "installed" not in state or self._python_changed(state)
        )

    def is_interrupted(self) -> bool:
        """Whether a set-up of an environment that the user made was killed: packages may be cut."""
        state = self._read_state()
        return state is not None and "installed" not in state

    def claim(self) -> None:
        """Create the folder and its lock file. Raises BootstrapError when it is not writable."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.lock_file.touch()
        except OSError as error:
            raise BootstrapError(
                f"cannot write to {self.root} ({error.strerror or error}): make the folder "
                f"writable, or set {VENV_VARIABLE} to a folder that is"
            ) from error

    def check_is_ours(self) -> None:
        """To be asked under the lock: another launch may be in the middle of its first file.

        Raises: BootstrapError when the folder holds something that we may not empty.
        """
        foreign = [entry.name for entry in self.root.iterdir() if entry.name != LOCK_FILE]
        if foreign and self._read_state() is None and not self._is_virtual_environment():
            raise BootstrapError(
                f"{self.root} holds something else than a virtual environment: move it away, "
                f"or set {VENV_VARIABLE} to an empty folder"
            )

    def mark_building(self) -> None:
        """From here on the folder counts as half-made."""
        state = self._read_state()
        if state is None:  # a folder that the user filled is completed, but never emptied
            state = {"made_here": not self._is_virtual_environment()}
        self._write_state({name: state[name] for name in ("made_here", "python") if name in state})

    def mark_ready(self, groups: Groups) -> None:
        """The folder is complete; the state is on disk before this returns."""
        installed = {group: digest(requirements) for group, requirements in groups.items()}
        self._write_state({**(self._read_state() or {}), "installed": installed})

    def create(self, inherited: Sequence[int] = ()) -> None:
        """Empty the folder and make a fresh environment with pip in it.

        Args:
            inherited: file descriptors that the child processes keep open.
        Raises: BootstrapError when ``venv`` fails.
        """
        for entry in self.root.iterdir():
            if entry.name in KEPT_WHEN_EMPTIED:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        done = subprocess.run(
            [_base_python(), "-I", "-m", "venv", str(self.root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            pass_fds=tuple(inherited),
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            raise BootstrapError(
                f"could not create the virtual environment {self.root}: {reason[-1]}; "
                "mend that and start again"
            )
        self._write_state({"made_here": True, "python": _python_version()})

    def _python_changed(self, state: dict[str, Any]) -> bool:
        """The system's Python was upgraded under the environment; only visible from within."""
        return self.is_running and state.get("python", _python_version()) != _python_version()

    def _is_virtual_environment(self) -> bool:
        return (self.root / "pyvenv.cfg").is_file()

    def _unmet(self, groups: Groups) -> list[str]:
        """For an environment that the user made: it has no state file, so look inside."""
        pattern = "Lib/site-packages" if sys.platform == "win32" else "lib/python*/site-packages"
        folders = [str(folder) for folder in self.root.glob(pattern)]
        return unmet([text for group in groups.values() for text in group], folders)

    def _read_state(self) -> dict[str, Any] | None:
        """None without a state file; an unreadable one counts as half-made."""
        try:
            state = json.loads((self.root / STATE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return (
            state
            if isinstance(state, dict) and isinstance(state.get("installed", {}), dict)
            else {}
        )

    def _write_state(self, state: dict[str, Any]) -> None:
        path = self.root / STATE_FILE
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _base_python() -> str:
    """The interpreter outside any virtual environment: ours may be the one being rebuilt."""
    # What the venv module itself goes by; the public names only lead to a guess.
    return str(getattr(sys, "_base_executable", None) or sys.executable)
