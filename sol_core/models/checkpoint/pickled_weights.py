"""PyTorch's pickled weights (``pytorch_model.bin``) as safetensors in the data directory.

A pickle can run code, so these files are read by torch's restricted reader (``weights_only``),
which makes tensors and plain values and refuses everything else, and never by pickle itself. The
folder of a set of files is ``<data dir>/models/pickled/<beginning of their SHA-256s' SHA-256>``,
made once.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.errors import ModelLoadError
from sol_core.files.characters import first_line
from sol_core.files.checksums import STAMPS_NAME, known_sha256
from sol_core.files.safetensors_files import write_safetensors
from sol_core.files.staging import (
    check_free_space,
    exclusive,
    explain_os_error,
    publish,
    staged_folder,
)

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.progress import Progress


def ensure_safetensors(paths: Sequence[Path], data_dir: Path, report: Progress) -> list[Path]:
    """Return one safetensors file for each pickled one, converting them the first time.

    Killing this leaves no folder or a complete one.

    Raises: ModelLoadError for a file that is damaged or holds more than tensors, and where the
        folder cannot be stored.
    """
    if not paths:
        return []
    home = data_dir / "models" / "pickled"
    try:
        sums = [known_sha256(path, data_dir / "cache" / STAMPS_NAME) for path in paths]
        folder = home / hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16]
        if not folder.is_dir():
            with exclusive(folder, lambda: report("Waiting for another process", 0.0)):
                if not folder.is_dir():
                    _convert(paths, folder, report)
    except OSError as error:
        raise ModelLoadError(
            f"cannot store {paths[0].name} converted: {explain_os_error(error, home)}"
        ) from error
    return sorted(folder.glob("*.safetensors"))


def _convert(paths: Sequence[Path], folder: Path, report: Progress) -> None:
    with staged_folder(folder) as staging:
        check_free_space(staging, sum(path.stat().st_size for path in paths))
        made = staging / "weights"
        made.mkdir()
        for number, path in enumerate(paths):
            report(f"Converting {path.name}", number / len(paths))
            write_safetensors(_tensors(path), made / f"{number:05}.safetensors")
        publish(made, folder, staging)


def _tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file, each in memory of its own."""
    import torch

    record = _unpickled(path)
    if not isinstance(record, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in record.items()
    ):
        raise ModelLoadError(
            f"{path} holds something else than weights by their names: take the model's "
            "safetensors weights"
        )
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in record.items()
    }


def _unpickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelLoadError(
            f"{path} holds more than tensors, and what it holds could run code, so it is not "
            f"read ({first_line(error)}): take the model's safetensors weights"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelLoadError(
            f"{path} is corrupt or truncated ({first_line(error)}); copy it again from where it "
            "came"
        ) from error
