"""Policies with random weights for a tiny model."""

import json
from dataclasses import replace

import torch

from sol_core.actions import ActionGrid
from sol_core.policy.files.folder import policy_checksum
from sol_core.policy.info import InputLayout, PolicyConfig, PolicyInfo
from sol_core.policy.network import DamageNetwork, build_network, level_values
from sol_core.policy.policy import Policy, save_policy
from sol_core.policy.prices import PriceTable

SMALL = PolicyConfig(width=16, num_heads=2)
# The paper's levels, with pages that kernels choose.
SERVED = ActionGrid(page_scorer="int4", page_choice="group", page_budget="need")
COARSE = replace(
    SERVED,
    keep_fractions=(0.25, 0.5, 1.0),
    channel_keep_ratios=(0.5, 0.75, 1.0),
    bit_widths=(6, 8, 16),
)


def make_policy(model, config=SMALL, grid=COARSE, seed=0):
    """A policy with random weights, prices measured on random states."""
    torch.manual_seed(seed)
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    network = build_network(layout, grid, config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    info = PolicyInfo("tiny", model.name, model.fingerprint, grid, config, layout)
    prices = []
    if isinstance(network, DamageNetwork):
        for base, levels in zip(network.base, level_values(grid), strict=True):
            spread = torch.randn(200, 1)
            prices.append(PriceTable.measure((base.detach() + spread).exp(), levels))
    return Policy(info, network, prices, model.lm.weights.embedding)


def save_tiny_policy(model, folder, grid=None):
    """Write a policy, without a grid for ``SERVED``; returns its folder."""
    save_policy(make_policy(model, grid=grid or SERVED), folder)
    return folder


def no_policy(name):
    """A library without a policy."""
    raise AssertionError(f"{name} was looked up")


def change_config(folder, **changes):
    """Change fields of a policy's config.json as its maker would, with a checksum that fits."""
    path = folder / "config.json"
    record = json.loads(path.read_text("utf-8")) | changes
    weights = (folder / "model.safetensors").read_bytes()
    record["weights_sha256"] = policy_checksum(weights, record)
    path.write_text(json.dumps(record), "utf-8")
