"""The policies that can be used by name: the shipped one, and those in the data directory.

A policy is a folder of config.json, model.safetensors and README.md; its name here is the
folder's. The shipped one is called "default" and cannot be deleted.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import AppError, PolicyNotFoundError
from app.paths import DataDir
from sol_core.errors import SolError
from sol_core.places import SHIPPED_POLICY

if TYPE_CHECKING:
    from sol_core.policy import PolicyInfo

__all__ = ["DEFAULT_POLICY", "SHIPPED_FOLDER", "PolicyLibrary", "StoredPolicy"]

DEFAULT_POLICY = "default"
SHIPPED_FOLDER = SHIPPED_POLICY
CONFIG_FILE = "config.json"
NAME_LENGTH = 60
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ._-]{{0,{NAME_LENGTH - 1}}}")
_NO_FOLDER_NAME = re.compile(r"[^A-Za-z0-9 ._-]+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that the library can read.

    Attributes:
        name: what it is asked for by.
        is_shipped: it came with the program.
        info: what its config.json says.
    """

    name: str
    folder: Path
    is_shipped: bool
    info: PolicyInfo


# PolicyLibrary has a method called ``list``, which hides the built-in from its annotations.
_Policies = list[StoredPolicy]
_Names = list[str]
_Folders = list[tuple[str, Path]]


class PolicyLibrary:
    """Names of policies and the folders behind them. Holds no state: folders may come and go."""

    def __init__(self, data_dir: DataDir, shipped: Path | None = None) -> None:
        self._folder = data_dir.policies
        self._shipped = shipped or SHIPPED_FOLDER

    def list(self) -> _Policies:
        """Every readable policy: the shipped one first, the others newest first."""
        from sol_core.policy import read_policy_info

        found: _Policies = []
        for name, folder in self._folders():
            try:
                info = read_policy_info(folder)
            except SolError as error:
                logger.info("the policy in %s is left out: %s", folder, error)
                continue
            found.append(StoredPolicy(name, folder, name == DEFAULT_POLICY, info))
        return found

    def names(self) -> _Names:
        """The names alone, in the same order, without reading the files."""
        return [name for name, _ in self._folders()]

    def resolve(self, name: str) -> Path:
        """The folder of a policy, by its name or by the folder's own path.

        Raises: PolicyNotFoundError naming what there is.
        """
        if not name.strip():
            raise PolicyNotFoundError(f"the policy's name is empty: {self._choices()}")
        if name == DEFAULT_POLICY:
            if not _holds_policy(self._shipped):
                raise PolicyNotFoundError(
                    "no policy is shipped with this copy of the program "
                    f"({self._shipped} is missing): train one first, or name a folder"
                )
            return self._shipped
        if _NAME.fullmatch(name) and _holds_policy(self._folder / name):
            return self._folder / name
        try:
            folder = Path(name).expanduser().absolute()
        except RuntimeError:  # "~nobody/x": no such user
            folder = Path(name).absolute()
        if _holds_policy(folder):
            return folder
        if folder.is_dir():
            raise PolicyNotFoundError(f"the folder {name} holds no policy: it has no {CONFIG_FILE}")
        raise PolicyNotFoundError(f"no policy {name!r}: {self._choices()}, or the path of a folder")

    def resolve_name(self, name: str) -> Path:
        """As ``resolve``, for what comes from a browser: names only, no path of the server's.

        Raises: PolicyNotFoundError naming what there is.
        """
        if name not in self.names():
            raise PolicyNotFoundError(f"no policy {name!r}: {self._choices()}")
        return self.resolve(name)

    def delete(self, name: str) -> None:
        """Delete a stored policy for good.

        Raises: PolicyNotFoundError; AppError for the shipped one.
        """
        if name == DEFAULT_POLICY:
            raise AppError("the policy that came with the program cannot be deleted")
        if not _NAME.fullmatch(name) or not _holds_policy(self._folder / name):
            raise PolicyNotFoundError(f"no stored policy {name!r}: {self._choices()}")
        # Out of sight in one step, so that nobody finds half a policy.
        with tempfile.TemporaryDirectory(
            prefix=".deleted-", dir=self._folder, ignore_cleanup_errors=True
        ) as grave:
            (self._folder / name).rename(Path(grave) / name)

    def unique_name(self, wanted: str) -> str:
        """A free name like ``wanted``: characters that no folder name takes become "-", and
        "-2", "-3" … is added to one that is taken."""
        base = _NO_FOLDER_NAME.sub("-", wanted)[:NAME_LENGTH].strip(" -._") or "policy"
        name, number = base, 1
        while name.lower() == DEFAULT_POLICY or (self._folder / name).exists():
            number += 1
            ending = f"-{number}"
            name = base[: NAME_LENGTH - len(ending)] + ending
        return name

    def adopt(self, folder: Path, wanted: str) -> str:
        """Move a finished policy's folder into the library; return the name that it got.

        ``folder`` must lie on the data directory's disk: it arrives in one rename.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            name = self.unique_name(wanted)
            try:
                folder.rename(self._folder / name)
            except OSError:
                if (self._folder / name).exists():  # another process was faster
                    continue
                raise
            return name

    def copy_out(self, name: str, target: Path) -> None:
        """Copy a policy to an empty or new folder, complete or not at all."""
        source = self.resolve(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.partial-", dir=target.parent, ignore_cleanup_errors=True
        ) as staging:
            staged = Path(shutil.copytree(source, Path(staging) / "policy"))
            if target.is_dir():
                target.rmdir()  # refuses a folder that is not empty
            staged.rename(target)

    def _folders(self) -> _Folders:
        shipped = [(DEFAULT_POLICY, self._shipped)] if _holds_policy(self._shipped) else []
        stored = self._folder.iterdir() if self._folder.is_dir() else ()
        found = [path for path in stored if _NAME.fullmatch(path.name) and _holds_policy(path)]
        found.sort(key=lambda path: (-_made_at(path), path.name))
        return shipped + [(path.name, path) for path in found if path.name != DEFAULT_POLICY]

    def _choices(self) -> str:
        names = self.names()
        if not names:
            return "none is stored yet, train one"
        return f"stored are {', '.join(names[:12])}" + (" …" if len(names) > 12 else "")


def _holds_policy(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def _made_at(folder: Path) -> float:
    try:
        return (folder / CONFIG_FILE).stat().st_mtime
    except OSError:  # deleted at this moment
        return 0.0
