"""Policies in and out of the library as folders, zips and Hub repositories.

Everything that comes in is staged beside the library, checked there, and moved in with one
rename; nothing of it is ever run.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.host.errors import AppError, InputFileError, system_errors
from app.policies.library import PolicyLibrary
from sol_core.errors import PolicyError
from sol_core.files.places import program_name
from sol_core.files.staging import replacing

ZIP = ".zip"
KEEP_INCOMING_S = 24 * 3600
_INCOMING = ".incoming-"


class ModelInUse(NamedTuple):
    """The language model that a policy must have been trained for."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The library's gate."""

    library: PolicyLibrary

    def write(self, name: str, target: Path) -> None:
        """Export to a zip if ``target`` ends so, else a new or empty folder. Raises: AppError."""
        from sol_core.policy.files.archive import pack_policy

        remedy = "; name a new zip, or a new or empty folder"
        with system_errors(f"cannot write the policy to {target}", remedy=remedy):
            if target.suffix.lower() != ZIP:
                self.library.copy_out(name, target)
                return
            folder = self.library.resolve(name)
            with replacing(target) as staged:
                pack_policy(folder, staged)

    def zip_bytes(self, name: str, limit: int) -> bytes:
        """The policy as a zip in memory, of at most ``limit`` bytes. Raises: AppError."""
        with self._staging() as staging:
            self.write(name, staging / "policy.zip")
            if (staging / "policy.zip").stat().st_size > limit:
                raise AppError(
                    f"this policy is larger than {limit / 1e6:.0f} MB: export it with "
                    f"{program_name()} policies export"
                )
            return (staging / "policy.zip").read_bytes()

    def read(self, source: Path, wanted: str, model: ModelInUse | None) -> str:
        """Import a folder or zip under a name like ``wanted``; its name. Raises: AppError."""
        from sol_core.policy.files.archive import copy_policy, unpack_policy

        with system_errors(f"cannot read {source}"):
            if source.is_dir():
                return self._take_in(copy_policy, source, str(source), wanted, model)
            if source.is_file() and zipfile.is_zipfile(source):  # no pipe, no device
                return self._take_in(unpack_policy, source, str(source), wanted, model)
            exists = source.exists()
        what = "is no policy's folder and no zip" if exists else "does not exist"
        raise InputFileError(f"{source} {what}: name what policies export wrote")

    def pull(
        self, repository: str, wanted: str, model: ModelInUse | None, *, endpoint: str | None = None
    ) -> str:
        """As ``read``, from the Hub's repository "owner/name". Raises: DownloadError also."""
        from sol_core.policy.files.archive import copy_policy
        from sol_core.policy.files.locate import pull_policy

        with self._staging() as fetched:
            pull_policy(repository, fetched, endpoint=endpoint)
            return self._take_in(copy_policy, fetched, repository, wanted, model)

    def push(
        self, name: str, repository: str, *, private: bool, endpoint: str | None = None
    ) -> str:
        """Put a policy on the Hub; returns its address there. Raises: AppError, DownloadError."""
        from sol_core.policy.files.locate import push_policy

        folder = self.library.resolve(name)
        return push_policy(folder, repository, private=private, endpoint=endpoint)

    def _take_in(
        self,
        read: Callable[[Path, Path], None],
        source: Path,
        shown: str,
        wanted: str,
        model: ModelInUse | None,
    ) -> str:
        """Check what ``read`` puts into a folder, and move it in; messages name ``shown``."""
        from sol_core.policy import check_policy

        with self._staging() as staging:
            folder = staging / "policy"
            folder.mkdir()
            try:
                read(source, folder)
                info = check_policy(folder)
            except PolicyError as error:
                words = str(error).replace(str(folder), shown).replace(str(source), shown)
                raise PolicyError(words) from error
            if model is not None and model.fingerprint != info.fingerprint:
                raise PolicyError(
                    f"this policy was trained for {info.model} (fingerprint "
                    f"{info.fingerprint[:8]}), not for {model.name} ({model.fingerprint[:8]}): it "
                    "would be refused there"
                )
            return self.library.take_in(folder, wanted)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder on the library's disk that goes in the end; after a day, of a killed process."""
        parent = self.library.folder
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{_INCOMING}*"):
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - left.stat().st_mtime > KEEP_INCOMING_S:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=_INCOMING, dir=parent, ignore_cleanup_errors=True
        ) as staging:
            yield Path(staging)
