"""A policy with random weights over the full grid, saved for a tiny model."""

import torch

from sol_core.actions import ActionGrid
from sol_core.policy import Policy, PolicyConfig, PolicyInfo, save_policy
from sol_core.policy.info import InputLayout
from sol_core.policy.network import DamageNetwork, build_network, level_values
from sol_core.policy.prices import PriceTable


def save_tiny_policy(model, folder, grid=None):
    """Write the policy, without a grid for the paper's; returns its folder."""
    torch.manual_seed(0)
    grid, config = grid or ActionGrid(), PolicyConfig(width=16, num_heads=2)
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    network = build_network(layout, grid, config)
    assert isinstance(network, DamageNetwork)
    for head in network.heads.parameters():
        torch.nn.init.normal_(head, std=0.3)
    spread = torch.randn(400, 1)
    prices = [
        PriceTable.measure((base.detach() + spread).exp(), levels)
        for base, levels in zip(network.base, level_values(grid), strict=True)
    ]
    info = PolicyInfo("tiny", model.name, model.fingerprint, grid, config, layout)
    save_policy(Policy(info, network, prices, model.lm.weights.embedding), folder)
    return folder


def no_policy(name):
    """A library without a policy."""
    raise AssertionError(f"{name} was looked up")
