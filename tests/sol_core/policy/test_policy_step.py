"""A policy's compiled step against the network and price rule that training uses."""

import pytest
import torch

from kernels.policy_step import ByteTerms, policy_step_kernel
from sol_core.actions import ActionGrid
from sol_core.policy.info import PolicyConfig
from sol_core.policy.policy import StepInputs
from sol_core.policy.step import FewRowPolicy
from tests.sol_core.policy.test_policy import observe
from tests.support.tiny_policies import COARSE, make_policy

pytestmark = pytest.mark.skipif(policy_step_kernel() is None, reason="Numba cannot run here")

# An axis of one level, and axes of different lengths.
UNEVEN = ActionGrid((0.2, 0.4, 0.6, 0.8, 1.0), (1.0,), (6, 16))


def _states(policy, rows, steps):
    """Random states; some steps aim at the lowest and at the highest ends of all axes."""
    generator = torch.Generator().manual_seed(5)
    low, high = policy.ends
    aims = low + torch.rand(rows, steps, 3, generator=generator) * (high - low)
    aims[0, 1:3], aims[-1, 2:4] = low, high
    previous = torch.rand(steps, rows, 3, generator=generator)
    previous[..., -1] *= 100  # beyond the clamp
    return [
        (aims[:, step].contiguous(), seen, ByteTerms.none()) for step, seen in enumerate(previous)
    ]


def _play(fast, model, states):
    """Inputs of the steps and their logits, [R, T, axes, levels]."""
    rows = len(states[0][0])
    played = [fast.step(observe(model, rows, n), n, *state) for n, state in enumerate(states)]
    inputs, logits, _ = zip(*played, strict=True)
    joined = StepInputs(*(torch.cat(parts, 1) for parts in zip(*inputs, strict=True)))
    return joined, torch.stack(logits, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", [COARSE, UNEVEN, ActionGrid()], ids=["coarse", "uneven", "full"])
@pytest.mark.parametrize("rows", [1, 4])
@torch.no_grad()
def test_steps_equal_the_whole_sequence(model, rows, grid, dtype):
    policy = make_policy(model, PolicyConfig(width=24, num_heads=3), grid)
    policy.embedding = policy.embedding.to(dtype)
    policy.network.encoder.rest_mean.normal_()
    fast = FewRowPolicy.make(policy, rows)
    inputs, found = _play(fast, model, _states(policy, rows, 16))
    whole, _ = policy.logits(inputs)
    assert torch.equal(found.argmax(-1), whole.argmax(-1))
    # A level that an axis lacks costs a million; the others are as exact as the dearest.
    known = whole > -1e5
    assert torch.equal(found > -1e5, known)
    tolerance = 1e-4 * float(whole[known].abs().max())
    torch.testing.assert_close(found[known], whole[known], atol=tolerance, rtol=0)


@torch.no_grad()
def test_changed_weights_and_prices_count_from_the_next_episode(model):
    policy, other = make_policy(model, seed=1), make_policy(model, seed=2)
    fast, states = FewRowPolicy.make(policy, 2), _states(policy, 2, 1)
    assert FewRowPolicy.make(policy, 5) is None
    _, before = _play(fast, model, states)
    policy.network.load_state_dict(other.network.state_dict())
    policy.prices = other.prices
    inputs, after = _play(fast, model, states)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, other.logits(inputs)[0], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_weights_that_float16_holds_are_read_in_float16(model):
    """As a folder stores them; and again in float32 once training has moved them."""
    policy = make_policy(model)
    for parameter in policy.network.parameters():
        parameter.copy_(parameter.half())
    fast, states = FewRowPolicy.make(policy, 2), _states(policy, 2, 1)
    inputs, logits = _play(fast, model, states)
    torch.testing.assert_close(logits, policy.logits(inputs)[0])
    assert fast._network[0].number.dtype == "int16"
    policy.network.encoder.project.weight.add_(1e-5)
    _, logits = _play(fast, model, states)
    torch.testing.assert_close(logits, policy.logits(inputs)[0])
    assert fast._network[0].number.dtype == "float32"
