"""Make sure that the process runs where the packages are, before anything imports them.

The running interpreter is used when it has them, and nothing is installed. On a Space the
packages are the platform's business, for an installed copy they are pip's. Otherwise ``.venv``
beside ``launch.py`` is made or reused, and the process starts over in it. Standard library only; a
complete ``.venv`` costs a few milliseconds and no network.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.console import Console
from app.errors import BootstrapError
from app.file_lock import FileLock
from app.hosting import is_space
from app.program import LAUNCHER, PROJECT_ROOT, is_checkout
from app.provision.requirements import BASE, read_requirements, unmet
from app.provision.virtual_environment import VENV_VARIABLE, Groups, VirtualEnvironment

__all__ = ["PROJECT_ROOT", "ensure_environment", "replace_process"]

RESTARTED_VARIABLE = "SOL_RESTARTED_IN"
# torch for Linux brings NVIDIA's libraries along: 6.1 GB unpacked in all, 2 GB elsewhere.
NEEDED_BYTES = (7 if sys.platform == "linux" else 3) * 1000**3


def ensure_environment(
    *,
    extras: Sequence[str] = (),
    install: bool = True,
    console: Console | None = None,
    project_root: Path = PROJECT_ROOT,
) -> None:
    """Return when this process has the packages; else start over in ``.venv``, made if need be.

    Args:
        extras: optional dependency groups of pyproject.toml that are needed too.
        install: False never creates or installs; the caller copes with missing packages.
    Raises: BootstrapError, one sentence that says what to do.
    """
    if not is_checkout(project_root):
        if extras:
            raise BootstrapError(
                f"this needs the project's repository: clone it and use its {LAUNCHER}"
            )
        return
    console = console or Console()
    groups = read_requirements(project_root / "pyproject.toml", extras)
    environment = VirtualEnvironment.locate(project_root)
    restarted = os.environ.pop(RESTARTED_VARIABLE, None) is not None
    if environment.is_running:
        suffices = environment.is_ready(groups)
    else:
        suffices = _interpreter_suffices(groups, install)
    if suffices:
        return
    if not environment.is_ready(groups):
        if not install:
            return
        _set_up(environment, groups, console)
    elif restarted:
        raise BootstrapError(
            f"the Python in {environment.root} does not start as a virtual environment: "
            "delete that folder and start again"
        )
    os.environ[RESTARTED_VARIABLE] = str(environment.root)
    # orig_argv also holds the interpreter's own options (-X, -W), which stay in force.
    replace_process([str(environment.python), *sys.orig_argv[1:]])


def replace_process(command: Sequence[str]) -> NoReturn:
    """Continue as another program; on Windows as its parent, leaving with its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execv(command[0], list(command))
    with subprocess.Popen(command) as child:
        while True:
            try:
                sys.exit(child.wait())
            except KeyboardInterrupt:  # the child got it too and decides
                continue


def _interpreter_suffices(groups: Groups, install: bool) -> bool:
    """Whether to go on in the interpreter that the user chose (or the Space provides).

    Raises: BootstrapError when it is that interpreter's environment, but incomplete.
    """
    missing = unmet(groups[BASE])
    on_space = is_space()
    if missing and not on_space:
        return False
    missing += [text for group, texts in groups.items() if group != BASE for text in unmet(texts)]
    if missing and install:
        where = "requirements.txt of this Space" if on_space else "this Python environment"
        command = " ".join(f'"{text.partition(";")[0].strip()}"' for text in missing)
        remedy = "add them there" if on_space else f"{sys.executable} -m pip install {command}"
        names = ", ".join(text.partition(";")[0].strip() for text in missing)
        raise BootstrapError(f"{where} lacks {names}: {remedy}")
    return True


def _set_up(environment: VirtualEnvironment, groups: Groups, console: Console) -> None:
    """Create or complete the environment, alone: a second launch waits and then reuses it."""
    _check_venv_module()
    environment.claim()
    lock = FileLock(
        environment.lock_file,
        on_wait=lambda: console.say("Another launch is setting up the packages; waiting for it."),
    )
    try:
        with lock:
            environment.check_is_ours()
            if not environment.is_ready(groups):
                _build(environment, groups, console, lock)
    except OSError as error:
        raise BootstrapError(
            f"could not set up {environment.root}: {error.strerror or error}; mend that, or set "
            f"{VENV_VARIABLE} to another folder"
        ) from error


def _build(
    environment: VirtualEnvironment, groups: Groups, console: Console, lock: FileLock
) -> None:
    from app.provision.pip_install import install_packages

    # A killed launch may leave its pip running: it inherits the lock, so that nobody
    # empties the folder under it. Windows passes no descriptors on.
    inherited = () if sys.platform == "win32" else (lock.descriptor,)
    free = shutil.disk_usage(environment.root).free
    reinstall = False
    if environment.needs_rebuild():
        _check_disk(environment, free)
        console.say(
            f"Setting up the Python packages in {environment.root} (once; 1 to 3 GB to fetch, "
            f"up to {NEEDED_BYTES / 1e9:.0f} GB on disk, usually 2 to 10 minutes)"
        )
        environment.mark_building()
        console.status("  creating the environment")
        environment.create(inherited)
    else:
        console.say(f"Updating the Python packages in {environment.root}")
        reinstall = environment.is_interrupted()
        environment.mark_building()
    install_packages(
        environment,
        [text for group in groups.values() for text in group],
        console,
        keep_downloads=free > 2 * NEEDED_BYTES,
        reinstall=reinstall,
        inherited=inherited,
    )
    for leftover in (environment.downloads, environment.temporary):
        shutil.rmtree(leftover, ignore_errors=True)
    environment.mark_ready(groups)
    console.say("The packages are ready.")


def _check_disk(environment: VirtualEnvironment, free_bytes: int) -> None:
    if free_bytes < NEEDED_BYTES:
        raise BootstrapError(
            f"only {free_bytes / 1e9:.1f} GB are free for the packages in {environment.root}, they "
            f"need {NEEDED_BYTES / 1e9:.0f} GB: free some space, or set {VENV_VARIABLE} to a "
            "folder on another disk"
        )


def _check_venv_module() -> None:
    if all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise BootstrapError(
        f"this Python ({sys.executable}) comes without the venv and ensurepip modules: install "
        f"them (Debian, Ubuntu: sudo apt install python{version}-venv) and start again"
    )
