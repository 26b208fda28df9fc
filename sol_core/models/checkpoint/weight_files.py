"""A folder's weights by checkpoint name, in one file or several."""

from __future__ import annotations

import json
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from sol_core.errors import ModelLoadError
from sol_core.files.places import first_line

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "model.safetensors"
_CONVERT = (
    "python -c \"import transformers as t; [one.from_pretrained({name!r}).save_pretrained('NEW') "
    'for one in (t.AutoModelForCausalLM, t.AutoTokenizer)]"'
)


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """All weights of a folder by their names; ModelLoadError for what is no whole safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    paths = _files(folder)
    if not paths:
        raise ModelLoadError(
            f"{name} holds no {_NAME}, and only safetensors weights are read: PyTorch's "
            "pytorch_model.bin becomes such, in the folder NEW, by "
            + _CONVERT.format(name=expanduser(name))
        )
    for path in paths:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                f"{path} is corrupt or truncated ({first_line(error)}); copy it again from where "
                "it came"
            ) from error
    return tensors


def _files(folder: Path) -> list[Path]:
    """The files that the index names, else the one without an index, if any."""
    index = folder / f"{_NAME}.index.json"
    if not index.is_file():
        return [folder / _NAME] if (folder / _NAME).is_file() else []
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{index} is not a weight index: {first_line(error)}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelLoadError(f"{index} names {name!r}, which is not in {folder}")
    return [folder / name for name in names]
