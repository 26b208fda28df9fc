"""A model's weights as the GGUF file it was made from holds them.

The file ``quantised.safetensors`` of a model's folder has, by checkpoint name, the blocks of
every matrix that they reproduce to the last bit, beside the unpacked ones; decode steps of few
rows read those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.quantised_weights import KINDS, GgufBlocks, unpack_blocks
from sol_core.errors import ModelLoadError
from sol_core.files.places import BLOCKS_NAME


def read_blocks(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, GgufBlocks]:
    """The blocks of a model's folder by checkpoint name; none where it has no such file."""
    if not (folder / BLOCKS_NAME).is_file():
        return {}
    with _opened(folder / BLOCKS_NAME) as (file, kinds):
        blocks_by_name = {
            name: GgufBlocks(kind, file.get_tensor(name)) for name, kind in kinds.items()
        }
        ends = {
            name: blocks._replace(data=blocks.data[[0, -1]])
            for name, blocks in blocks_by_name.items()
        }
        for name, some in ends.items():
            if not torch.equal(unpack_blocks(some), tensors[name][[0, -1]].float()):
                raise ValueError(f"its {name} is not the model's")
        return blocks_by_name


def block_kinds(folder: Path) -> dict[str, str]:
    """The kinds of these blocks, without reading them. Raises: ModelLoadError likewise."""
    if not (folder / BLOCKS_NAME).is_file():
        return {}
    with _opened(folder / BLOCKS_NAME) as (_, kinds):
        return kinds


def common_bits(kinds: Mapping[str, str]) -> int | None:
    """Bits of the numbers in all layers' blocks; None where they differ or some are no blocks."""
    bits = {
        KINDS[kind][0] if kind in KINDS else None
        for name, kind in kinds.items()
        if ".layers." in name
    }
    return bits.pop() if len(bits) == 1 else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """An open file of blocks, and their kinds by checkpoint name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file, json.loads(file.metadata()["kinds"])
    except (SafetensorError, OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{path} is damaged or of other weights ({error}): delete it, and steps read the "
            "unpacked weights"
        ) from error


def join_blocks(blocks: Mapping[str, GgufBlocks], names: list[str]) -> GgufBlocks | None:
    """Matrices side by side, if all are there and of one kind."""
    parts = [blocks[name] for name in names if name in blocks]
    if len(parts) < len(names) or len({tensor.kind for tensor in parts}) != 1:
        return None
    return GgufBlocks(parts[0].kind, torch.cat([tensor.data for tensor in parts]))
