"""A model's weights as the GGUF file it was made from holds them.

The file ``quantised.safetensors`` of a model's folder has, by checkpoint name, the blocks of
every matrix that they reproduce to the last bit, beside the unpacked ones; decode steps of few
rows read those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kernels.quantised_weights import GgufBlocks, unpack_blocks
from sol_core.errors import ModelLoadError
from sol_core.files.places import BLOCKS_NAME

__all__ = ["join_blocks", "read_blocks"]


def read_blocks(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, GgufBlocks]:
    """The blocks of a model's folder by checkpoint name; none where it has no such file.

    Args:
        tensors: the model's weights, with which the blocks must agree.
    Raises: ModelLoadError when the file is damaged, or of other weights.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / BLOCKS_NAME
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            kinds: dict[str, str] = json.loads(file.metadata()["kinds"])
            found = {name: GgufBlocks(kind, file.get_tensor(name)) for name, kind in kinds.items()}
        ends = {name: one._replace(data=one.data[[0, -1]]) for name, one in found.items()}
        for name, some in ends.items():
            if not torch.equal(unpack_blocks(some), tensors[name][[0, -1]].float()):
                raise ValueError(f"its {name} is not the model's")
        return found
    except (SafetensorError, OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{path} is damaged or of other weights ({error}): delete it, and steps read the "
            "unpacked weights"
        ) from error


def join_blocks(blocks: Mapping[str, GgufBlocks], names: list[str]) -> GgufBlocks | None:
    """Matrices side by side, if all are there and of one kind."""
    found = [blocks[name] for name in names if name in blocks]
    if len(found) < len(names) or len({one.kind for one in found}) != 1:
        return None
    return GgufBlocks(found[0].kind, torch.cat([one.data for one in found]))
