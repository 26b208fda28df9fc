"""Reads and writes policy folders: config.json, model.safetensors, README.md (model card)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sol_core.actions import AXES, record_of
from sol_core.errors import PolicyError
from sol_core.fields import from_json
from sol_core.files.paths import DEFAULT_MODEL, read_regular
from sol_core.files.staging import replacing, write_safetensors
from sol_core.policy.byte_prices import SampleStates
from sol_core.policy.files.locate import is_hub_id
from sol_core.policy.info import (
    CARD_FILE,
    CONFIG_FILE,
    MAX_BYTES,
    SCHEMA,
    WEIGHTS_FILE,
    PolicyInfo,
    info_from_record,
    read_config,
)
from sol_core.policy.network import DamageNetwork, JointNetwork, build_network
from sol_core.policy.prices import GainTable, PriceTable

logger = logging.getLogger(__name__)
_CHECKSUM = "weights_sha256"
_HUB_IDS = {DEFAULT_MODEL: "HuggingFaceTB/SmolLM2-135M-Instruct"}


def model_card(info: PolicyInfo) -> str:
    levels = "\n".join(
        f"- {axis.term}: {some[0]:g} to {some[-1]:g} in {len(some)} levels"
        for axis, some in zip(AXES, info.grid.levels(), strict=True)
    )
    summary = json.dumps(info.summary, indent=1, sort_keys=True)
    # The Hub accepts only its own ids here, so a local model is left out.
    hub_id = _HUB_IDS.get(info.model, info.model)
    base_model = f"base_model: {hub_id}\n" if is_hub_id(hub_id) else ""
    return f"""---
library_name: sol-explorer
tags: [per-token-compute, policy, model_hub_mixin, pytorch_model_hub_mixin]
{base_model}---

# {info.name}

A compute-allocation policy for **{info.model}** (fingerprint `{info.fingerprint}`), after
*Self-Optimizing Language Models* (arXiv:2605.10875). Before every decode step it reads the
model's state and chooses how much attention is read, how many MLP channels are computed and
how many bits the MLP activations get, so that the mean meets a requested budget.

- network: {info.config.network}, {info.num_parameters:,} parameters
{levels}
- pages of {info.grid.page_size} tokens, quantised at `{info.grid.quant_site}`
- made {info.created or "at an unknown time"}

Use it from Python, with this folder or with its id on the Hugging Face Hub:

```python
from sol_core import Budget, Policy, generate, load_model

model = load_model({info.model!r})
policy = Policy.from_pretrained("FOLDER_OR_HUB_ID", model=model)
print(generate(model, "Why is the sky blue?", policy, Budget(0.5, 0.6, 8)).text)
```

or with `sol-explorer generate "…" --schedule policy:FOLDER --keep 0.5 --channels 0.6 --bits 8`, or
choose it on the page.

What its training measured, on held-out text of the training corpus:

```json
{summary}
```
"""


class PolicyParts(NamedTuple):
    """Contents of a policy folder: all but the language model's embedding."""

    info: PolicyInfo
    network: DamageNetwork | JointNetwork
    prices: list[PriceTable]
    states: SampleStates | None
    gains: GainTable | None = None


def weights_sha256(policy: PolicyParts) -> str:
    """Return the checksum that ``write_policy_files`` would write."""
    from safetensors.torch import save

    return policy_checksum(save(_tensors(policy.network)), _record(policy))


def policy_checksum(weights: bytes, record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the weights file and of the rest of config.json."""
    covered = {name: value for name, value in record.items() if name != _CHECKSUM}
    text = json.dumps(covered, sort_keys=True)
    return hashlib.sha256(weights + text.encode()).hexdigest()


def _record(policy: PolicyParts) -> dict[str, Any]:
    """Return config.json without its checksum."""
    prices = prices_record(policy.prices, policy.states)
    gains = {} if policy.gains is None else {"gains": asdict(policy.gains)}
    return {"schema": SCHEMA, **record_of(policy.info), **prices, **gains}


def _tensors(network: DamageNetwork | JointNetwork) -> dict[str, Tensor]:
    return {name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}


def write_policy_files(policy: PolicyParts, folder: Path) -> None:
    """Write the three files into an existing folder, each atomically; keep its other files."""
    with replacing(folder / WEIGHTS_FILE) as path:
        write_safetensors(_tensors(policy.network), path)
    record = _record(policy)
    record[_CHECKSUM] = policy_checksum((folder / WEIGHTS_FILE).read_bytes(), record)
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    with replacing(folder / CARD_FILE) as path:
        path.write_text(model_card(policy.info), "utf-8")
    with replacing(folder / CONFIG_FILE) as path:
        path.write_text(text + "\n", "utf-8")


def read_policy_folder(folder: Path) -> PolicyParts:
    """Read a policy folder. Raises: PolicyError naming the missing or damaged file and why."""
    record = read_config(folder)
    info = info_from_record(record, folder)
    _check_size(info, folder)
    network = build_network(info.layout, info.grid, info.config, info.episode_steps)
    network.load_state_dict(_read_weights(folder / WEIGHTS_FILE, network, record))
    try:
        prices, states = prices_from_record(record)
        gains = record.get("gains") and from_json(GainTable, record["gains"], "gains")
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise PolicyError(f"{folder / CONFIG_FILE}: prices cannot be read ({error})") from error
    if len(prices) != (len(AXES) if info.config.network == "factored" else 0):
        raise PolicyError(f"{folder / CONFIG_FILE} holds {len(prices)} price tables")
    return PolicyParts(info, network, prices, states, gains)


def _check_size(info: PolicyInfo, folder: Path) -> None:
    """Raise for a configuration whose weights exceed the file, before memory is allocated."""
    actions = math.prod(map(len, info.grid.levels()))
    ours = {
        "factored": info.layout.width,
        "joint": 2 * info.layout.hidden_size + actions + info.episode_steps,
    }
    columns, path = ours.get(info.config.network, 0), folder / WEIGHTS_FILE
    if not path.is_file() or 2 * info.config.width * columns > path.stat().st_size:
        raise PolicyError(f"{path} is missing, or too small for the network in {CONFIG_FILE}")


def prices_record(prices: Sequence[PriceTable], states: SampleStates | None) -> dict[str, Any]:
    """Return prices and their sample states as JSON-ready values."""
    return {
        "prices": [asdict(table) for table in prices],
        "states": None if states is None else asdict(states),
    }


def prices_from_record(record: Mapping[str, Any]) -> tuple[list[PriceTable], SampleStates | None]:
    """Read the result of ``prices_record``; older policies have no states."""
    states = record.get("states")
    return (
        [from_json(PriceTable, table, "a price table") for table in record["prices"]],
        None if states is None else from_json(SampleStates, states, "sample states"),
    )


def _read_weights(
    path: Path, network: DamageNetwork | JointNetwork, record: dict[str, Any]
) -> dict[str, Tensor]:
    """Read the weights; check their checksum, names, shapes and values."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_regular(path, MAX_BYTES[WEIGHTS_FILE])
        tensors = load(content)
    except (OSError, SafetensorError, ValueError) as error:
        raise PolicyError(f"{path} is missing, truncated or damaged: {error}") from error
    _check_sum(content, record, path.parent)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    shapes = {name: value.shape for name, value in tensors.items()}
    if expected != shapes:
        odd = sorted(set(expected.items()) ^ set(shapes.items()), key=str)[0][0]
        raise PolicyError(f"{path} does not fit its config.json (see {odd!r})")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise PolicyError(f"{path} holds numbers that are not finite")
    return {name: value.float() for name, value in tensors.items()}


def _check_sum(weights: bytes, record: Mapping[str, Any], folder: Path) -> None:
    """Raises: PolicyError for a missing or different checksum."""
    known = record.get(_CHECKSUM)
    if known is None:
        raise PolicyError(
            f"{folder / CONFIG_FILE} has no {_CHECKSUM}, so nobody can tell whether the policy is "
            "whole: copy it again from where it came, or train it again"
        )
    weights_alone, made = record["schema"] != SCHEMA, policy_checksum(weights, record)
    if weights_alone:
        made = hashlib.sha256(weights).hexdigest()
    if known != made:
        damaged = WEIGHTS_FILE if weights_alone else f"{WEIGHTS_FILE} or {CONFIG_FILE}"
        raise PolicyError(
            f"the policy in {folder} is damaged: the SHA-256 of {damaged} is {made}, "
            f"{CONFIG_FILE} expects {known}. Copy the policy again from where it came"
        )
    if weights_alone:
        logger.warning(
            "the policy in %s is of an earlier release, whose checksum covers its weights and not "
            "its prices; policy.save_pretrained(folder) writes one that does",
            folder,
        )
