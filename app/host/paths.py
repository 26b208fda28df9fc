"""Layout of the data directory; nothing is written outside it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.host.errors import DataDirError, system_errors
from sol_core.errors import ConfigError
from sol_core.files.paths import DATA_DIR_VARIABLE, default_data_dir

# Below this SQLite and the logs fail in odd ways; downloads check their own need.
MIN_FREE_BYTES = 100 * 1024**2


class _DataPath(str):
    """A path below the data directory."""

    __slots__ = ()

    def __get__(self, data_dir: DataDir, owner: Any = None) -> Path:
        return data_dir.root / self


@dataclass(frozen=True, slots=True)
class DataDir:
    """The data directory and the paths in it; creating nothing until ``prepare``."""

    root: Path

    models = _DataPath("models")
    database = _DataPath("sol.sqlite3")
    id_file = _DataPath("data-dir-id")  # has this directory's id, unique on a database server
    policies = _DataPath("policies")
    logs = _DataPath("logs")
    corpora = _DataPath("corpora")
    jobs = _DataPath("jobs")  # a folder for each background job: checkpoints and what it is making
    uploads = _DataPath("uploads")  # running ones, other than of corpora; made when it is needed
    lock_file = _DataPath("serve.lock")
    worker_lock_file = _DataPath("worker.lock")

    @classmethod
    def resolve(cls, argument: str | None) -> DataDir:
        """The directory to use: ``argument``, else ``SOL_DATA_DIR``, else the platform's own."""
        if argument is not None and not argument.strip():
            raise DataDirError("--data-dir is empty: name a folder, or leave the option out")
        try:
            if argument is None:
                return cls(default_data_dir())
            return cls(Path(argument).expanduser().absolute())
        except (ConfigError, RuntimeError) as error:  # "~nobody/x": no such user
            raise DataDirError(f"cannot use {argument!r} as data directory: {error}") from error

    def prepare(self, *, fills: bool = True) -> None:
        """Create the directory and its folders; with ``fills=False`` an existing one suffices."""
        if not fills and self.root.is_dir():
            return
        failed = f"cannot write to the data directory {self.root}"
        remedy = f"; choose another with --data-dir or {DATA_DIR_VARIABLE}"
        with system_errors(failed, DataDirError, remedy):
            for folder in (self.models, self.policies, self.logs, self.corpora, self.jobs):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
        free = shutil.disk_usage(self.root).free
        if free < MIN_FREE_BYTES:
            raise DataDirError(
                f"the disk of the data directory {self.root} is full ({free / 1e6:.0f} MB free, "
                f"{MIN_FREE_BYTES / 1e6:.0f} MB needed): free some space, or choose another "
                f"with --data-dir or {DATA_DIR_VARIABLE}"
            )
