"""GRPO's mathematics against hand-made tables and its invariants."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sol_core.training.config import GrpoConfig
from sol_core.training.grpo import advantages, budget_penalty, clipped_loss, discounted_returns


def test_returns_are_discounted_sums_of_what_follows():
    rewards = torch.tensor([1.0, 2.0, 4.0])
    assert discounted_returns(rewards, 0.5).tolist() == [3.0, 4.0, 4.0]
    assert discounted_returns(rewards, 0.0).tolist() == rewards.tolist()
    assert discounted_returns(rewards, 1.0).tolist() == [7.0, 6.0, 4.0]


@given(st.integers(1, 3), st.integers(2, 5), st.integers(2, 6), st.integers(0, 2**31))
def test_advantages_sum_to_zero(texts, group, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    returns = torch.randn(texts, group, steps, generator=generator, dtype=torch.float64)
    scale = torch.logspace(0, -2, texts)[:, None, None]  # a harsh budget's returns vary more
    advantage = advantages(scale * returns + 10 * torch.arange(texts)[:, None, None])
    assert advantage.sum(1).abs().max() < 1e-3
    assert torch.allclose(advantage.std((1, 2)), torch.ones(texts).double(), rtol=1e-3)
    # The order within a group is that of the returns.
    assert torch.equal(advantage.argmax(1), returns.argmax(1))


def test_advantages_whitened_over_the_batch_keep_the_groups_apart():
    returns = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    returns[1] *= 100
    advantage = advantages(returns, "batch")
    assert advantage.sum(1).abs().max() < 1e-4
    assert advantage.std() == pytest.approx(1.0, rel=1e-3)
    assert advantage[1].std() > 20 * advantage[0].std()


def test_the_penalty_begins_past_the_tolerance_and_counts_bits_twice():
    targets = torch.tensor([[0.5, 0.5, 0.5]])
    spends = torch.tensor([0.51, 0.62, 0.42]).expand(1, 1, 4, 3)
    assert budget_penalty(spends, targets).item() == pytest.approx(
        100 * 0.10**2 + 200 * 0.06**2, rel=1e-4
    )


def test_a_step_makes_what_paid_more_likely():
    config = GrpoConfig(entropy_bonus=0.0)
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    choices = torch.tensor([[[0]], [[2]]])
    old = torch.full((2, 1), math.log(1 / 3))
    result = clipped_loss([logits], choices, old, torch.tensor([[1.0], [-1.0]]), config)
    result.loss.backward()
    assert logits.grad[0, 0, 0] < 0 < logits.grad[1, 0, 2]
    assert result.clip_fraction == 0
    assert result.entropy == pytest.approx(math.log(3))


def test_a_ratio_outside_the_clip_gets_no_gradient():
    config = GrpoConfig(entropy_bonus=0.0)
    logits = torch.tensor([[[2.0, 0.0]]], requires_grad=True)
    old = torch.full((1, 1), math.log(0.5))
    result = clipped_loss([logits], torch.tensor([[[0]]]), old, torch.ones(1, 1), config)
    result.loss.backward()
    assert logits.grad.abs().max() == 0
    assert result.clip_fraction == 1
    assert result.loss.item() == pytest.approx(-1.2)


def test_temperature_divides_the_logits():
    logits = [torch.tensor([[[4.0, 0.0]]])]
    config = GrpoConfig(temperature=4.0, entropy_bonus=0.0)
    probability = 1 / (1 + math.exp(-1.0))
    choice, old, paid = torch.tensor([[[0]]]), torch.tensor([[0.9 * probability]]), torch.ones(1, 1)
    warm = clipped_loss(logits, choice, old.log(), paid, config)
    assert -warm.loss.item() == pytest.approx(1 / 0.9)
