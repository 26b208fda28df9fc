"""The shipped policies choose what they chose when they were recorded, level by level."""

import json
from pathlib import Path

import pytest
import torch

from sol_core.actions import Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.files.paths import SHIPPED_POLICIES
from sol_core.policy.files.folder import read_policy_folder
from sol_core.policy.policy import Policy
from sol_core.policy.scheduler import PolicyScheduler

GOLDEN = Path(__file__).parents[2] / "golden" / "shipped_policy_choices.json"
BUDGETS = (Budget(0.3, 0.7, 8), Budget(0.5, 0.5, 6.5), Budget(0.7, 0.85, 10), Budget(0.45, 1, 16))
STEPS, TOKENS = 24, 64


def _waves(seed, *shape):
    """Numbers between −1 and 1 that are the same wherever they are computed."""
    places = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return (places * (12.9898 + seed)).sin().mul(43758.5453).sin().float().view(shape)


def seen(step, rows, layout):
    tokens = (torch.arange(rows) * 7 + step * 13) % TOKENS
    cached = tuple(40 + 90 * row + step for row in range(rows))
    size, seed = layout.hidden_size, 10 * step
    return StepObservation(
        step, tokens, cached, 3 * _waves(seed, rows, size), 40 * _waves(seed + 1, rows, 2, size),
        0.5 + 0.5 * _waves(seed + 2, rows, layout.num_layers), 2 + 2 * _waves(seed + 3, rows),
        5 + 5 * _waves(seed + 4, rows),
    )  # fmt: skip


def choices(name, rows):
    """Levels [steps][rows][axes] of a shipped policy, and the logits behind them."""
    info, network, prices, *_ = read_policy_folder(SHIPPED_POLICIES[name])
    embedding = _waves(5, TOKENS, info.layout.hidden_size)
    policy = Policy(info, network, prices, embedding)
    budgets = [BUDGETS[row % len(BUDGETS)] for row in range(rows)]
    scheduler = PolicyScheduler(policy, budgets, keep_steps=True)
    for step in range(STEPS):
        scheduler.next_actions(seen(step, rows, info.layout))
    taken = [step.choices.tolist() for step in scheduler.steps]
    return taken, torch.stack([step.logits for step in scheduler.steps])


@pytest.mark.parametrize("rows", [4, 8])  # the compiled step's most rows, and torch's
@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_choices_are_the_recorded_ones(name, rows):
    recorded = json.loads(GOLDEN.read_text("utf-8"))
    assert choices(name, rows)[0] == recorded[f"{name} {rows}"]
