"""The quick count of a step's bytes is the cost model's."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, Action
from sol_core.decoding.cost import StepBytes
from sol_core.models.spec import ModelSpec
from tests.sol_core.decoding.test_cost import SMOLLM2, costs_of

WINDOWED = dataclasses.replace(SMOLLM2, windows=(512, None) * 15)
LEVELS = st.sampled_from((0.2, 0.35, 0.5, 1.0))


@given(
    st.sampled_from(sorted(GRIDS)),
    st.sampled_from((SMOLLM2, WINDOWED)),
    st.builds(Action, LEVELS, LEVELS, st.sampled_from((8, 16))),
    st.lists(st.integers(1, 9000), min_size=2, max_size=2),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)
def test_it_equals_the_cost_model(
    name: str,
    spec: ModelSpec,
    action: Action,
    contexts: list[int],
    tokens_read: float | None,
    observed: bool,
) -> None:
    grid = GRIDS[name]
    costs = costs_of(spec, page_size=grid.page_size, mechanisms=grid.mechanisms)
    quick = StepBytes(costs)
    for context in contexts:
        whole = costs.decode_step(action, context, tokens_read=tokens_read, observed=observed)
        found = quick.of(action, context, tokens_read, observed=observed)
        assert found == pytest.approx(whole.bytes_read, rel=1e-12)
        dense = costs.decode_step(DENSE, context).bytes_read
        assert quick.dense(context) == pytest.approx(dense, rel=1e-12)
