"""Make sure that the process runs where the packages are, before anything imports them.

An interpreter that has them is used as it is; on a Space they are the platform's business, for an
installed copy pip's. Else ``.venv`` is made or reused, and the process starts over in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.host.console import Console
from app.host.errors import BootstrapError
from app.host.hosting import PROJECT_ROOT, is_checkout, is_space
from app.setup.requirements import BASE, read_requirements, unmet
from app.setup.virtual_environment import Groups, VirtualEnvironment
from sol_core.files.paths import LAUNCHER

RESTARTED = "sol-restarted"  # the interpreter's own option -X, which its children do not inherit


def ensure_environment(
    *, extras: Sequence[str] = (), install: bool = True, project_root: Path = PROJECT_ROOT
) -> None:
    """Return with the packages or, to ``install`` them if need be, start over in ``.venv``."""
    if not is_checkout(project_root):
        if extras:
            raise BootstrapError(
                f"this needs the project's repository: clone it and use its {LAUNCHER}"
            )
        return
    groups = read_requirements(project_root / "pyproject.toml", extras)
    environment = VirtualEnvironment.locate(project_root)
    if environment.is_running:
        suffices = environment.is_ready(groups)
    else:
        suffices = _interpreter_suffices(groups, install)
    if suffices:
        return
    if not environment.is_ready(groups):
        if not install:
            return
        environment.set_up(groups, Console())
    elif RESTARTED in sys._xoptions:
        raise BootstrapError(
            f"the Python in {environment.root} does not start as a virtual environment: "
            "delete that folder and start again"
        )
    # orig_argv also holds the interpreter's own options (-X, -W), which stay in force.
    options = [] if RESTARTED in sys._xoptions else ["-X", RESTARTED]
    replace_process([str(environment.python), *options, *sys.orig_argv[1:]])


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
    """Return whether to go on in the interpreter that the user chose, or the Space provides."""
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
