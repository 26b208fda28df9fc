"""Corrected aims: what a regular gap between budget and spend is worth knowing for."""

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import ActionGrid, Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.fields import from_json
from sol_core.policy import PolicyScheduler, load_policy, save_policy
from sol_core.policy.network import level_values
from sol_core.policy.prices import AimCorrection
from tests.support.tiny_policies import COARSE, make_policy

LEVELS = level_values(ActionGrid())


def random_targets(count, seed=0):
    shares = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    low = torch.stack([values[0] for values in LEVELS])
    high = torch.stack([values[-1] for values in LEVELS])
    return low + shares * (high - low)


def random_contexts(count, seed=0):
    return torch.randint(128, 512, (count,), generator=torch.Generator().manual_seed(seed))


def gap_of(aims, contexts):
    """Attention gets more where little is asked of the channels and after a short context."""
    keep, channels = aims[:, 0], aims[:, 1]
    room = (keep - 0.1) * (1 - keep) * 4
    much = 0.08 - 0.15 * (channels - 0.4) - 0.05 * (contexts / 128).log2()
    return torch.stack((room * much, 0 * keep, 0 * keep), 1)


def test_a_regular_gap_is_taken_off():
    targets, contexts = random_targets(600), random_contexts(600)
    noise = 0.03 * torch.randn(600, 3, generator=torch.Generator().manual_seed(1))
    spends = targets + gap_of(targets, contexts) + noise
    correction = AimCorrection.fit(targets, spends, contexts, LEVELS)
    fresh, lengths = random_targets(200, seed=2), random_contexts(200, seed=3)
    before = gap_of(fresh, lengths).abs().mean(0)
    aims = correction.aims(fresh, lengths)
    after = (aims + gap_of(aims, lengths) - fresh).abs().mean(0)
    assert before[0] > 0.02
    assert after[0] < 0.3 * before[0]
    assert after[1:].max() < 0.006
    # Other contexts count as the nearest that was seen.
    for far, near in ((0, int(contexts.min())), (8192, int(contexts.max()))):
        one, other = (correction.aims(fresh, torch.full((200,), length)) for length in (far, near))
        assert torch.equal(one, other)


def test_the_ends_of_an_axis_are_aimed_at_as_they_are():
    targets = random_targets(300)
    correction = AimCorrection.fit(targets, targets + 0.1, random_contexts(300), LEVELS)
    ends = torch.tensor([[0.1, 0.4, 5 / 16], [1.0, 1.0, 1.0]])
    ends[0, 2] = LEVELS[2][0]
    assert torch.allclose(correction.aims(ends, torch.tensor([200, 300])), ends, atol=1e-7)
    middle = torch.tensor([[0.5, 0.7, 0.6]])
    assert correction.aims(middle, torch.tensor([200])).lt(middle).all()
    assert torch.equal(AimCorrection().aims(middle, torch.tensor([200])), middle)


@settings(max_examples=30)
@given(st.integers(1, 40), st.floats(-1, 1), st.integers(0, 10**6))
def test_aims_stay_on_their_axis_whatever_was_measured(count, gap, context):
    targets = random_targets(count, seed=count)
    correction = AimCorrection.fit(targets, targets + gap, random_contexts(count), LEVELS)
    aims = correction.aims(random_targets(50), torch.full((50,), context))
    assert torch.isfinite(aims).all()
    for axis, values in enumerate(LEVELS):
        assert aims[:, axis].min() >= values[0] - 1e-6
        assert aims[:, axis].max() <= values[-1] + 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [[0.0] * 14] * 2},
        {"weights": [[float("nan")] + [0.0] * 13] * 3},
        {"contexts": [128.0]},
        {"contexts": [512.0, 128.0]},
        {"contexts": [128.0, float("inf")]},
        {"lows": ["much"]},
        {"highs": [1.0]},
    ],
)
def test_a_damaged_record_is_refused(change):
    targets = random_targets(100)
    record = asdict(AimCorrection.fit(targets, targets, random_contexts(100), LEVELS))
    with pytest.raises((ValueError, TypeError)):
        from_json(AimCorrection, record | change)


def first_aims(policy, model):
    scheduler = PolicyScheduler(policy, [Budget(0.5, 0.75, 8)])
    hidden = torch.randn(1, model.spec.hidden_size)
    scheduler.next_actions(StepObservation(0, torch.tensor([3]), (5,), hidden))
    return scheduler.inputs().aims[0, 0]


def test_a_policy_that_overspends_is_asked_for_less(model, tmp_path_factory):
    plain, corrected = make_policy(model), make_policy(model)
    levels = level_values(COARSE)
    low, high = (torch.stack([values[end] for values in levels]) for end in (0, -1))
    targets = low + torch.rand(200, 3) * (high - low)
    overspent = targets + torch.tensor([0.12, 0.0, 0.0])
    contexts = torch.full((200,), 5)
    corrected.correction = AimCorrection.fit(targets, overspent, contexts, levels)
    assert first_aims(plain, model).tolist() == [0.5, 0.75, 0.5]
    assert first_aims(corrected, model)[0] < 0.42
    folder = tmp_path_factory.mktemp("policy") / "made"
    save_policy(corrected, folder)
    stored = load_policy(folder, model).correction
    aims = corrected.correction.aims(targets, contexts)
    assert torch.allclose(stored.aims(targets, contexts), aims, atol=1e-6)
