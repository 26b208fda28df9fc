"""A model's files against the checksums that are known for them, and their replacement.

Known are those of the converted default model, by its manifest, and of files from the Hugging
Face Hub, whose cache names a large file by its SHA-256. A folder of the user's own has none.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from sol_core.errors import ModelLoadError
from sol_core.files.assets import ensure_default_model
from sol_core.files.checksums import STAMPS_NAME
from sol_core.files.model_manifest import refuse_damaged, verify_model
from sol_core.files.places import BLOCKS_NAME, DEFAULT_MODEL, program_name
from sol_core.progress import Progress

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_model_files(name: str, folder: Path, data_dir: Path) -> None:
    """Check a model of the data directory; reads its files once after every change.

    Args:
        name: the default model's, or a Hub id.
    Raises: ModelLoadError naming the file, both checksums, and the command that replaces it.
    """
    stamps = data_dir / "cache" / STAMPS_NAME
    try:
        if name == DEFAULT_MODEL:
            verify_model(folder, stamps)
        else:
            refuse_damaged(_downloads(folder), stamps)
    except ModelLoadError as error:
        chosen = [] if name == DEFAULT_MODEL else ["--model", name]
        command = shlex.join(["doctor", "--repair", *chosen, "--data-dir", str(data_dir)])
        raise ModelLoadError(f"{error}. To fetch it again: {program_name()} {command}") from error


def make_default_model_whole(data_dir: Path, on_progress: Progress) -> Path:
    """Read every byte of the default model, and fetch and convert it again if one is wrong, or if
    it was converted before its blocks were kept.

    Raises: as ``ensure_model``.
    """

    def check(folder: Path) -> None:
        verify_model(folder)
        if not (folder / BLOCKS_NAME).exists():
            raise ModelLoadError(f"{folder} has no {BLOCKS_NAME}")

    return ensure_default_model(data_dir, on_progress, check)


def discard_damaged_downloads(folder: Path) -> None:
    """Delete those files of a Hub snapshot that are damaged; the next download fetches them."""
    for path, sha256 in _downloads(folder).items():
        try:
            refuse_damaged({path: sha256}, None)
        except ModelLoadError:
            path.unlink(missing_ok=True)


def _downloads(folder: Path) -> dict[Path, str]:
    """The large files behind a snapshot's links, and the SHA-256 that each is named by."""
    files = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
    return {
        path: path.name for path in sorted(files) if path.is_file() and _SHA256.fullmatch(path.name)
    }
