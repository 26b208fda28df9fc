"""Objects that all stages of an evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sol_core.actions import ActionGrid
from sol_core.budgets import MixTable
from sol_core.comparing.contenders import Contender, shared_grid
from sol_core.comparing.paths import paper_grid
from sol_core.decoding.schedules import Horizon
from sol_core.evaluation.config import EvaluationConfig
from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class Setting:
    """Objects shared by all stages.

    Attributes:
        texts: [N, ``config.block_len``] int64, on the model's device.
        mixes: of the model under the policies' grid, where budgets are shares of the bytes.
        paper: steps skip work by the paper's mechanisms.
    """

    lm: FrozenLM
    contenders: Sequence[Contender]
    config: EvaluationConfig
    texts: Tensor
    mixes: MixTable | None = None
    paper: bool = False

    @property
    def grid(self) -> ActionGrid:
        grid = shared_grid(self.contenders)
        return paper_grid(grid) if self.paper else grid

    @property
    def episode_steps(self) -> int:
        return self.contenders[0].episode_steps

    @property
    def horizon(self) -> Horizon:
        return Horizon(self.episode_steps, self.config.steps)
