"""Writes checkpoints, each one safetensors file, atomically; keeps the previous one.

Random generators need no state: every unit of work seeds its own from its number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sol_core.errors import ConfigError, PolicyError
from sol_core.fields import from_json
from sol_core.files.staging import flush_to_disk, read_safetensors, sealed, write_safetensors
from sol_core.training.config import TrainConfig

_LOG = logging.getLogger(__name__)
LABELS = "labels"  # folder of a run's label files
_NAME, _PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@dataclass(slots=True)
class RunProgress:
    """Progress of a training run, as stored in a checkpoint."""

    phase: str = "labelling"  # "labelling", "warm start", "grpo", "calibrating" or "done"
    labelled: int = 0  # texts
    warm_steps: int = 0
    updates: int = 0
    label_limit: int | None = None  # texts the warm start uses; None until labelling ends
    reports: int = 0  # reports made
    elapsed_s: float = 0.0  # working time, without interruptions
    prices: list[dict[str, Any]] = field(default_factory=list)  # price tables as JSON
    states: dict[str, Any] | None = None  # sample states for prices on bytes, as JSON
    measured: dict[str, Any] = field(default_factory=dict)  # the last held-out metrics


def check_own(folder: Path) -> None:
    """Raises: ConfigError for a folder with files but no run."""
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if held and not held & {_NAME, _PREVIOUS, LABELS}:
        raise ConfigError(
            f"{folder} holds other files: name a new folder, or that of a run to go on with"
        )


def write_checkpoint(
    folder: Path,
    config: dict[str, Any],
    progress: RunProgress,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint. Raises: OSError if the disk is full; the last one stays intact."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    header = {
        "config": json.dumps(config, sort_keys=True),
        "progress": json.dumps(asdict(progress)),
    }
    staging = folder / f"{_NAME}.part"
    try:
        # A copy: safetensors refuses tensors that share memory.
        copies = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        write_safetensors(copies, staging, sealed(copies, header))
        flush_to_disk(staging)
        if (folder / _NAME).exists():
            os.replace(folder / _NAME, folder / _PREVIOUS)
        os.replace(staging, folder / _NAME)
    finally:
        staging.unlink(missing_ok=True)


def read_checkpoint(
    folder: Path, config: dict[str, Any]
) -> tuple[RunProgress, dict[str, Tensor]] | None:
    """Return the last intact checkpoint of this configuration, or None."""
    paths = [path for path in (folder / _NAME, folder / _PREVIOUS) if path.exists()]
    problems = []
    for path in paths:
        try:
            header, tensors = read_safetensors(path, "pt")
            kept, progress = (json.loads(header[name]) for name in ("config", "progress"))
        except (OSError, ValueError, KeyError) as error:
            problems.append(f"{path}: {error}")
            _LOG.warning("checkpoint %s is damaged and passed over: %s", path, error)
            continue
        with contextlib.suppress(ConfigError):  # of an older release, without later fields
            if from_json(TrainConfig, kept) == from_json(TrainConfig, config):
                return RunProgress(**progress), tensors
        raise PolicyError(
            f"{folder} holds a run with other settings: give another folder, or the settings "
            "that it was begun with"
        )
    if problems:
        raise PolicyError(
            f"no checkpoint in {folder} can be read ({'; '.join(problems)}): "
            "delete them to begin again"
        )
    return None


def restore(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Restore weights and moments; the optimiser must hold the network's parameters."""
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        owner, _, rest = name.partition(".")
        if owner == "network":
            weights[rest] = value
        else:
            index, key = rest.split(".")
            state.setdefault(int(index), {})[key] = value
    network.load_state_dict(weights)
    record = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": record["param_groups"]})
