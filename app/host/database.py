"""Choice of database: SQLite in the data directory, or the PostgreSQL of ``SOL_DATABASE_URL``.

Files stay in the data directory. Where several share one database, each has an id that its rows
carry, so that a worker claims only jobs whose files it sees.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.host.errors import DataDirError, system_errors
from app.host.paths import DataDir
from storage import Store, open_store

DATABASE_VARIABLE = "SOL_DATABASE_URL"
_READ_S = 2.0  # whoever makes the file writes it in an instant


def database_location(data_dir: DataDir) -> Path | str:
    return os.environ.get(DATABASE_VARIABLE, "").strip() or data_dir.database


def open_database(data_dir: DataDir, **options: Any) -> Store:
    """``open_store`` at ``database_location``. Raises: as that; DataDirError."""
    location = database_location(data_dir)
    if isinstance(location, Path):  # it holds the rows of this data directory only
        return open_store(location, **options)
    return open_store(location, data_dir_id=_data_dir_id(data_dir), **options)


def _data_dir_id(data_dir: DataDir) -> str:
    """The machine's name at the first start, and random digits: made once, then read."""
    path = data_dir.id_file
    name = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:32].strip("-") or "machine"
    with system_errors(f"cannot keep the data directory's id in {path}", DataDirError):
        with suppress(FileExistsError), path.open("x", encoding="ascii") as file:
            file.write(f"{name}-{secrets.token_hex(4)}")
        gives_up_at = time.monotonic() + _READ_S
        while not (content := path.read_text("ascii", "replace").strip()):
            if time.monotonic() > gives_up_at:
                raise DataDirError(f"{path} is empty: delete it, and it is made again")
            time.sleep(0.02)
    return content
