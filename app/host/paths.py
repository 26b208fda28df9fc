"""Layout of the data directory; nothing is written outside it.

``--data-dir`` wins over ``SOL_DATA_DIR``, which wins over the platform's own place.
Standard library, plus platformdirs when neither is given.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.host.errors import DataDirError
from sol_core.errors import ConfigError
from sol_core.files.places import DATA_DIR_VARIABLE, default_data_dir

# Below this SQLite and the logs fail in odd places; downloads check their own need.
MIN_FREE_BYTES = 100 * 1024**2


@dataclass(frozen=True, slots=True)
class DataDir:
    """The data directory and the places in it; creating nothing until ``prepare``."""

    root: Path

    @classmethod
    def resolve(cls, argument: str | None) -> DataDir:
        """The directory to use: ``argument``, else ``SOL_DATA_DIR``, else the platform's.

        Raises: DataDirError when the argument is empty.
        """
        if argument is not None and not argument.strip():
            raise DataDirError("--data-dir is empty: name a folder, or leave the option out")
        try:
            if argument is None:
                return cls(default_data_dir())
            return cls(Path(argument).expanduser().absolute())
        except (ConfigError, RuntimeError) as error:  # "~nobody/x": no such user
            raise DataDirError(f"cannot use {argument!r} as data directory: {error}") from error

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def database(self) -> Path:
        return self.root / "sol.sqlite3"

    @property
    def id_file(self) -> Path:
        """Path of the file with this directory's id, unique on a database server."""
        return self.root / "data-dir-id"

    @property
    def policies(self) -> Path:
        return self.root / "policies"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"

    @property
    def jobs(self) -> Path:
        """Folders of background jobs, one each: checkpoints and what they are making."""
        return self.root / "jobs"

    @property
    def uploads(self) -> Path:
        """Folder of running uploads other than corpora; made when it is needed."""
        return self.root / "uploads"

    @property
    def lock_file(self) -> Path:
        return self.root / "serve.lock"

    @property
    def worker_lock_file(self) -> Path:
        return self.root / "worker.lock"

    def prepare(self, *, fills: bool = True) -> None:
        """Create the directory and its folders, and make sure that they can be filled.

        Args:
            fills: whether files are to be made in it; without, one that is there will do, even
                where nothing can be written.
        Raises: DataDirError when it cannot be created or written, or the disk is full.
        """
        if not fills and self.root.is_dir():
            return
        try:
            places = (self.models, self.policies, self.logs, self.corpora, self.jobs)
            for folder in (self.root, *places):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
        except OSError as error:
            raise DataDirError(
                f"cannot write to the data directory {self.root}: {error.strerror or error}; "
                f"choose another with --data-dir or {DATA_DIR_VARIABLE}"
            ) from error
        free = shutil.disk_usage(self.root).free
        if free < MIN_FREE_BYTES:
            raise DataDirError(
                f"the disk of the data directory {self.root} is full ({free / 1e6:.0f} MB free, "
                f"{MIN_FREE_BYTES / 1e6:.0f} MB needed): free some space, or choose another "
                f"with --data-dir or {DATA_DIR_VARIABLE}"
            )
