"""Random schedules to learn damage from.

Every window draws a mean per axis and scatters its steps around it; some windows leave an
axis dense, so that the axes can be told apart. The levels are drawn before the rollout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.policy.info import InputLayout
from sol_core.policy.inputs import kept_rows, observation_row, observed_by
from sol_core.policy.network import level_values


def draw_levels(grid: ActionGrid, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Level indices [rows, steps, axes] int64 of random schedules."""
    rows, steps = shape
    axes = []
    for axis, values in zip(AXES, level_values(grid), strict=True):
        above, high, scatter, dense = axis.draws
        low = float(values[0]) + above
        mean = low + (high - low) * torch.rand(rows, 1, generator=generator)
        wish = mean + scatter * torch.randn(rows, steps, generator=generator)
        is_dense = torch.rand(rows, 1, generator=generator) < dense
        wish = torch.where(is_dense, float(values[-1]), wish)
        axes.append((wish[..., None] - values).abs().argmin(-1))
    return torch.stack(axes, -1)


class ExplorationScheduler:
    """Plays drawn levels and keeps what a policy would have seen.

    Args:
        levels: [R, T, axes] int64.
    Attributes:
        rows: per step [R, layout.width] fp16.
    """

    def __init__(self, levels: Tensor, grid: ActionGrid, layout: InputLayout) -> None:
        self._levels, self._grid, self._layout = levels, grid, layout
        self.observes = observed_by(layout)
        self._values = level_values(grid)
        self.rows: list[Tensor] = []

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        step = observation.step
        if step == 0:
            previous = torch.ones(self._levels.shape[0], len(self._values))
        else:
            taken = self._levels[:, step - 1].unbind(-1)
            axes = zip(self._values, taken, strict=True)
            previous = torch.stack([values[levels] for values, levels in axes], -1)
        seen = observation_row(observation, previous, self._layout)
        self.rows.append(kept_rows(seen, self._layout).cpu())
        return [self._grid.action(places) for places in self._levels[:, step].tolist()]
