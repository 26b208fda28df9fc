"""A policy on disk: config.json, model.safetensors, README.md. Never pickle.

The layout is that of ``PyTorchModelHubMixin`` folders. Whatever is read is checked: schema
version, tensor names and shapes, finite numbers, the model it was trained for.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import torch
from torch import Tensor

from sol_core.actions import ActionGrid
from sol_core.errors import PolicyError
from sol_core.loading import LanguageModel
from sol_core.policy.card import model_card
from sol_core.policy.correction import AimCorrection
from sol_core.policy.info import CONFIG_FILE, SCHEMA, info_from_record, read_config
from sol_core.policy.network import DamageNetwork, JointNetwork
from sol_core.policy.policy import Policy, build_network
from sol_core.policy.prices import PriceTable

__all__ = ["load_policy", "save_policy"]

MAX_WEIGHT_BYTES = 200_000_000
_WEIGHTS, _CARD = "model.safetensors", "README.md"


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a policy folder in one rename; an existing one is replaced.

    Weights are stored in 16 bits, which changes no choice that matters and halves the size.
    Raises: OSError when the disk is full or not writable; the old folder is then intact.
    """
    from safetensors.torch import save_file

    staging = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    staging.mkdir(parents=True)
    try:
        tensors = {
            name: value.half().contiguous().cpu()
            for name, value in policy.network.state_dict().items()
        }
        save_file(tensors, staging / _WEIGHTS)
        record = {
            "schema": SCHEMA,
            **policy.info.to_dict(),
            "prices": [table.to_dict() for table in policy.prices],
            "correction": policy.correction.to_dict(),
        }
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
        (staging / CONFIG_FILE).write_text(text + "\n", "utf-8")
        (staging / _CARD).write_text(model_card(policy.info), "utf-8")
        _replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_policy(folder: Path, model: LanguageModel, *, grid: ActionGrid | None = None) -> Policy:
    """Load a policy for a model.

    Args:
        grid: the levels and site in use; None accepts the policy's own.
    Raises: PolicyError when the folder is damaged, or made for another model or grid.
    """
    record = read_config(folder)
    info = info_from_record(record, folder)
    network = build_network(info.layout, info.grid, info.config)
    network.load_state_dict(_read_weights(folder / _WEIGHTS, network))
    try:
        prices = [PriceTable.from_dict(table) for table in record["prices"]]
        correction = AimCorrection.from_dict(record.get("correction"))
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"{folder / CONFIG_FILE}: prices cannot be read ({error})") from error
    if len(prices) != (3 if isinstance(network, DamageNetwork) else 0):
        raise PolicyError(f"{folder / CONFIG_FILE} holds {len(prices)} price tables")
    policy = Policy(info, network, prices, model.lm.weights.embedding, correction)
    policy.check_model(model.fingerprint)
    if grid is not None and grid != info.grid:
        raise PolicyError(
            f"policy {info.name!r} chooses from another grid (site {info.grid.quant_site}, "
            f"page size {info.grid.page_size}) than the one in use (site {grid.quant_site}, "
            f"page size {grid.page_size}): use the policy's own, or train one for this grid"
        )
    return policy


def _read_weights(path: Path, network: DamageNetwork | JointNetwork) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise PolicyError(f"{path} is too large for a policy's weights")
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise PolicyError(f"{path} is missing, truncated or damaged: {error}") from error
    expected = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()), key=str)[0][0]
        raise PolicyError(f"{path} does not fit its config.json (see {odd!r})")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise PolicyError(f"{path} holds numbers that are not finite")
    return {name: value.float() for name, value in tensors.items()}


def _replace(staging: Path, folder: Path) -> None:
    """Rename into place; a folder that was there is moved aside first and then removed."""
    if not folder.exists():
        staging.rename(folder)
        return
    old = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
