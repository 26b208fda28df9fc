"""A folder's weights by checkpoint name, in one file or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sol_core.errors import ModelLoadError
from sol_core.files.characters import first_line
from sol_core.models.checkpoint.pickled_weights import ensure_safetensors

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.progress import Progress

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


def has_weights(folder: Path) -> bool:
    """Return whether there are safetensors, or an index of them."""
    return any((folder / f"{_SAFE}{suffix}").is_file() for suffix in ("", ".index.json"))


def read_tensors(folder: Path, data_dir: Path, report: Progress) -> dict[str, Tensor]:
    """All weights; PyTorch's pickled ones only where there are no safetensors.

    Args:
        data_dir: where safetensors that were made from pickled weights are kept.
    Raises: ModelLoadError for a file that is missing, damaged, or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    paths, remedy = _files(folder, _SAFE), "copy it again from where it came"
    if not paths:
        paths = ensure_safetensors(_files(folder, _PICKLED), data_dir, report)
        remedy = "delete its folder, and it is converted again"
    if not paths:
        raise ModelLoadError(
            f"{folder} holds no {_SAFE} and no {_PICKLED}: only safetensors weights are read, and "
            "PyTorch's after they were converted to such"
        )
    for path in paths:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                f"{path} is corrupt or truncated ({first_line(error)}); {remedy}"
            ) from error
    return tensors


def _files(folder: Path, name: str) -> list[Path]:
    """The files of one kind: those that its index names, else the one of that name, if any."""
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return [folder / name] if (folder / name).is_file() else []
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{index} is not a weight index: {first_line(error)}") from error
    for one in names:
        if Path(one).name != one or not (folder / one).is_file():
            raise ModelLoadError(f"{index} names {one!r}, which is not in {folder}")
    return [folder / one for one in names]
