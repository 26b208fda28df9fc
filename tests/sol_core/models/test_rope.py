"""Rotary angles that are looked up."""

import torch

from sol_core.models.rope import inverse_frequencies, rotary_angles
from sol_core.models.spec import RopeSpec
from sol_core.models.step.few_rows import RotaryTable


def test_looked_up_angles_are_the_computed_ones():
    """Rows at different places, on both sides of a stretch's end, and after many stretches."""
    ropes = [RopeSpec(), RopeSpec(500.0, "linear", factor=4.0)]
    table = RotaryTable(ropes, 16)
    for positions in ([0], [255, 256, 3], [70_000], *([256 * n] for n in range(70)), [1, 511]):
        found = torch.from_numpy(table.at(positions))
        assert found.shape == (2, 2, len(positions), 16)
        assert found.is_contiguous()
        for rope, angles in zip(ropes, found, strict=True):
            frequencies = inverse_frequencies(rope, 16, torch.device("cpu"))
            expected = torch.stack(rotary_angles(frequencies, torch.tensor(positions)))
            assert torch.equal(angles, expected)
