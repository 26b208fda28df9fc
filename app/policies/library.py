"""The policies that can be used by name: the shipped one, and those in the data directory.

The shipped one is called "default" and stays as it is. A former name of a renamed policy still
finds it, as long as no other policy has taken that name. Everything that comes in, as a folder, a
zip or a Hub repository, is staged beside the library, checked there, and moved in with one rename;
nothing of it is ever run.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.host.errors import AppError, InputFileError, PolicyNotFoundError, system_errors
from app.host.paths import DataDir
from sol_core.actions import ActionGrid, QuantSite, grid_named
from sol_core.config import DEFAULT_POLICY, POLICY_PREFIX, ScheduleConfig
from sol_core.errors import PolicyError, SolError
from sol_core.files.paths import DEFAULT_MODEL, SHIPPED_POLICY, program_name
from sol_core.files.staging import flush_to_disk, replacing, staged_folder
from sol_core.policy.files import archive, locate
from sol_core.policy.files.archive import FormerName, PolicyNotes, read_notes, write_notes
from sol_core.policy.files.locate import NAME_LENGTH, holds_policy, stored_folders

if TYPE_CHECKING:
    from sol_core.policy.info import PolicyInfo

CONFIG_FILE = "config.json"
ZIP = ".zip"
KEEP_INCOMING_S = 24 * 3600
_INCOMING = ".incoming-"
_NO_FOLDER_NAME = re.compile(r"[^A-Za-z0-9 ._-]+")


class ModelInUse(NamedTuple):
    """The language model that a policy must have been trained for."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that the library can read; ``notes`` is what the library knows besides ``info``."""

    name: str
    folder: Path
    is_shipped: bool
    info: PolicyInfo
    notes: PolicyNotes = field(default_factory=PolicyNotes)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name that runs may know it by, today's first."""
        return (self.name, *(former.name for former in self.notes.former_names))

    def was_called(self, name: str, moment: datetime) -> bool:
        """Return whether the name meant this policy then: others may have had it, too."""
        if name == self.name:
            marks = [self.notes.added or self.info.created]
            marks += [former.until for former in self.notes.former_names]
            return all(_moment(mark) <= moment for mark in marks)
        ends = [former.until for former in self.notes.former_names if former.name == name]
        return bool(ends) and moment <= _moment(ends[0])


def grid_for(
    name: str | None,
    quant_site: QuantSite | None,
    schedules: Iterable[ScheduleConfig],
    find: Callable[[str], Any],
) -> ActionGrid:
    """The named grid, for None as ``resolved_grid``, at a site where one is given."""
    chosen = None if name is None else grid_named(name)
    policies = (find(schedule.policy) for schedule in schedules if schedule.policy)
    grid = locate.resolved_grid(chosen, policies)
    return grid if quant_site is None else replace(grid, quant_site=quant_site)


def usual_schedule(model: str, *, by_share: bool) -> str:
    """The schedule that page and commands begin with: for shares of its own model's bytes the
    shipped policy, which steps aside where it does not pay; else static."""
    is_own = by_share and model == DEFAULT_MODEL
    return POLICY_PREFIX + DEFAULT_POLICY if is_own else "static"


class PolicyLibrary:
    """Names of policies and the folders behind them. Holds no state: folders may come and go."""

    def __init__(self, data_dir: DataDir, shipped: Path | None = None) -> None:
        self.folder = data_dir.policies
        self._shipped = shipped or SHIPPED_POLICY

    def list_all(self) -> tuple[list[StoredPolicy], list[dict[str, Any]]]:
        """The shipped one first, then the newest; and records of those that cannot be read."""
        policies, damaged = [], []
        for name, folder in self._folders():
            try:
                policies.append(_read(name, folder))
            except SolError as error:
                about = {"name": name, "is_shipped": name == DEFAULT_POLICY}
                damaged.append(about | {"problem": str(error)})
        return policies, damaged

    def get(self, name: str) -> StoredPolicy:
        """The policy of this name. Raises: PolicyNotFoundError; PolicyError for a damaged one."""
        folder = self.resolve_name(name)
        return _read(DEFAULT_POLICY if folder == self._shipped else folder.name, folder)

    def names(self) -> list[str]:
        """The names alone, in the same order, without reading the files."""
        return [name for name, _ in self._folders()]

    def resolve(self, name: str) -> Path:
        """The folder of a policy, by its name or by its own path. Raises: PolicyNotFoundError."""
        if not name.strip():
            raise PolicyNotFoundError(f"the policy's name is empty: {self._choices()}")
        if name == DEFAULT_POLICY:
            return self._shipped
        if folder := locate.find_stored(self.folder, name):
            return folder
        try:
            folder = Path(name).expanduser().absolute()
        except RuntimeError:  # "~nobody/x": no such user
            folder = Path(name).absolute()
        if holds_policy(folder):
            return folder
        if folder.is_dir():
            raise PolicyNotFoundError(f"the folder {name} holds no policy: it has no {CONFIG_FILE}")
        raise PolicyNotFoundError(f"no policy {name!r}: {self._choices()}, or the path of a folder")

    def resolve_name(self, name: str) -> Path:
        """``resolve`` for what comes from a browser: names only, no path of the server's."""
        if name == DEFAULT_POLICY:
            return self.resolve(name)
        if folder := locate.find_stored(self.folder, name):
            return folder
        raise PolicyNotFoundError(f"no policy {name!r}: {self._choices()}")

    def delete(self, name: str) -> None:
        """Delete a stored policy for good. Raises: AppError, also for the shipped one."""
        folder = self._own(name, "deleted")
        with self._staging() as grave:  # in one step, so that nobody finds half a policy
            folder.rename(grave / name)

    def rename(self, name: str, wanted: str) -> None:
        """Give a stored policy another name; its former one still finds it. Raises: AppError."""
        folder = self._own(name, "renamed")
        check_name(wanted)
        target = self.folder / wanted
        if target.exists() or wanted.lower() == DEFAULT_POLICY:
            raise AppError(f"the name {wanted!r} is taken: choose another one")
        notes = read_notes(folder)
        others = (old for old in notes.former_names if old.name not in (name, wanted))
        former = (FormerName(name, _now()), *others)
        write_notes(folder, replace(notes, former_names=former))
        folder.rename(target)

    def unique_name(self, wanted: str) -> str:
        """A free name like ``wanted``; "-2", "-3" … is added to one that is taken."""
        base = _NO_FOLDER_NAME.sub("-", wanted)[:NAME_LENGTH].strip(" -._") or "policy"
        name, number = base, 1
        while name.lower() == DEFAULT_POLICY or (self.folder / name).exists():
            number += 1
            ending = f"-{number}"
            name = base[: NAME_LENGTH - len(ending)] + ending
        return name

    def adopt(self, folder: Path, wanted: str, job_id: str) -> str:
        """Move a job's policy in, once; its id goes along, so there is all of it or nothing."""
        for stored in stored_folders(self.folder):
            if read_notes(stored).job == job_id:
                return stored.name
        write_notes(folder, PolicyNotes(job=job_id))
        return self._move_in(folder, wanted)

    def _move_in(self, folder: Path, wanted: str) -> str:
        """Move a complete policy in one rename that a power cut leaves whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (*folder.iterdir(), folder):
            flush_to_disk(path)
        while True:
            name = self.unique_name(wanted)
            try:
                folder.rename(self.folder / name)
            except OSError:
                if (self.folder / name).exists():  # another process was faster
                    continue
                raise
            flush_to_disk(self.folder)
            return name

    def copy_out(self, name: str, target: Path) -> None:
        """Copy a policy to an empty or new folder, complete or not at all."""
        source = self.resolve(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with staged_folder(target) as staging:
            staged = staging / "policy"
            staged.mkdir()
            archive.copy_policy(source, staged)
            if target.is_dir():
                target.rmdir()  # refuses a folder that is not empty
            staged.rename(target)

    def export(self, name: str, target: Path) -> None:
        """Export to a zip if ``target`` ends so, else a new or empty folder. Raises: AppError."""
        remedy = "; name a new zip, or a new or empty folder"
        with system_errors(f"cannot write the policy to {target}", remedy=remedy):
            if target.suffix.lower() != ZIP:
                self.copy_out(name, target)
                return
            folder = self.resolve(name)
            with replacing(target) as staged:
                archive.pack_policy(folder, staged)

    def zip_bytes(self, name: str, limit: int) -> bytes:
        """The policy as a zip in memory, of at most ``limit`` bytes. Raises: AppError."""
        with self._staging() as staging:
            self.export(name, staging / "policy.zip")
            if (staging / "policy.zip").stat().st_size > limit:
                raise AppError(
                    f"this policy is larger than {limit / 1e6:g} MB: export it with "
                    f"{program_name()} policies export"
                )
            return (staging / "policy.zip").read_bytes()

    def take_in(self, source: Path, wanted: str, model: ModelInUse | None) -> str:
        """Import a folder or zip under a name like ``wanted``; its name. Raises: AppError."""
        with system_errors(f"cannot read {source}"):
            if source.is_dir():
                return self._checked_in(archive.copy_policy, source, str(source), wanted, model)
            if source.is_file() and zipfile.is_zipfile(source):  # no pipe, no device
                return self._checked_in(archive.unpack_policy, source, str(source), wanted, model)
            exists = source.exists()
        what = "is no policy's folder and no zip" if exists else "does not exist"
        raise InputFileError(f"{source} {what}: name what policies export wrote")

    def pull(self, repository: str, wanted: str, model: ModelInUse | None) -> str:
        """``take_in`` from the Hub's repository "owner/name". Raises: DownloadError also."""
        with self._staging() as fetched:
            locate.pull_policy(repository, fetched)
            return self._checked_in(archive.copy_policy, fetched, repository, wanted, model)

    def push(self, name: str, repository: str, *, private: bool) -> str:
        """Put a policy on the Hub; returns its address there. Raises: AppError, DownloadError."""
        return locate.push_policy(self.resolve(name), repository, private=private)

    def _checked_in(
        self,
        read: Callable[[Path, Path], None],
        source: Path,
        shown: str,
        wanted: str,
        model: ModelInUse | None,
    ) -> str:
        """Check what ``read`` puts into a folder, and move it in; messages name ``shown``."""
        from sol_core.policy.files.folder import read_policy_folder

        with self._staging() as staging:
            folder = staging / "policy"
            folder.mkdir()
            try:
                read(source, folder)
                info = read_policy_folder(folder).info
            except PolicyError as error:
                words = str(error).replace(str(folder), shown).replace(str(source), shown)
                raise PolicyError(words) from error
            if model is not None and model.fingerprint != info.fingerprint:
                raise PolicyError(
                    f"this policy was trained for {info.model} (fingerprint "
                    f"{info.fingerprint[:8]}), not for {model.name} ({model.fingerprint[:8]}): it "
                    "would be refused there"
                )
            write_notes(folder, PolicyNotes(added=_now()))
            return self._move_in(folder, wanted)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder on the library's disk that goes in the end; after a day, of a killed process."""
        parent = self.folder
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{_INCOMING}*"):
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - left.stat().st_mtime > KEEP_INCOMING_S:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=_INCOMING, dir=parent, ignore_cleanup_errors=True
        ) as staging:
            yield Path(staging)

    def _own(self, name: str, changed: str) -> Path:
        """The folder of a policy that may be changed, by its name of today."""
        if name == DEFAULT_POLICY:
            raise AppError(f"the policy that came with the program cannot be {changed}")
        if not locate.is_policy_name(name) or not holds_policy(self.folder / name):
            raise PolicyNotFoundError(f"no stored policy {name!r}: {self._choices()}")
        return self.folder / name

    def _folders(self) -> list[tuple[str, Path]]:
        shipped = [(DEFAULT_POLICY, self._shipped)] if holds_policy(self._shipped) else []
        return shipped + [(path.name, path) for path in stored_folders(self.folder)]

    def _choices(self) -> str:
        names = self.names()
        if not names:
            return "none is stored yet, train one"
        return f"stored are {', '.join(names[:12])}" + (" …" if len(names) > 12 else "")


def check_name(wanted: str) -> None:
    """Raises: AppError for what is no policy's name."""
    if not locate.is_policy_name(wanted) or wanted != wanted.strip(" ."):
        raise AppError(
            f"{wanted[:80]!r} is no policy's name: letters, digits, spaces, dots, - and _, "
            f"beginning with a letter or digit, at most {NAME_LENGTH} characters"
        )


def _read(name: str, folder: Path) -> StoredPolicy:
    from sol_core.policy.info import read_policy_info

    info, is_shipped = read_policy_info(folder), name == DEFAULT_POLICY
    notes = PolicyNotes() if is_shipped else read_notes(folder)
    return StoredPolicy(name, folder, is_shipped, info, notes)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _moment(text: str) -> datetime:
    """A moment that a policy's files tell; the beginning of time for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
