"""Feedback: means of uneven spending end at their targets."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sol_core.budgets.row_schedules import Feedback


@example(0.5, (8, np.inf, 1), [2.0**-52])
@given(
    st.floats(0.1, 0.9),
    st.sampled_from(((8, np.inf, 1), (32, np.inf, 1), (64, 0.25, 4))),
    st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=50),
)
def test_means_return_to_their_targets(target, settings, disturbances):
    steps, slack, sooner = settings
    feedback = Feedback(np.float64(target), steps, slack=slack, sooner_steps=sooner)
    for disturbance in disturbances:
        feedback.add(feedback.next_targets() + disturbance)
    before = abs(feedback.excess)
    for _ in range(steps):
        feedback.add(feedback.next_targets())
    # (1 - 1/8)^8 = 0.34, (1 - 1/64)^64 = 0.36; sums of up to 114 steps round to some 1e-14
    assert abs(feedback.excess) <= 0.4 * before + 1e-12


def test_what_exceeds_the_slack_is_made_good_sooner():
    feedback = Feedback(np.array([0.5, 0.5]), 64, slack=0.25, sooner_steps=4)
    feedback.add(np.array([0.5, 1.75]))
    assert feedback.next_targets() == pytest.approx([0.5, 0.5 - 1.25 / 64 - 1.0 / 4])


def test_tensors_and_arrays_are_alike():
    spent = [[0.4, 0.9], [0.7, 0.2]]
    array, tensor = Feedback(np.array([0.5, 0.6]), 32), Feedback(torch.tensor([0.5, 0.6]), 32)
    for row in spent:
        array.add(np.array(row))
        tensor.add(torch.tensor(row))
    assert tensor.next_targets().tolist() == pytest.approx(array.next_targets().tolist())
