"""A policy: network, prices, and what it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sol_core.actions import ActionGrid, Budget
from sol_core.errors import PolicyError
from sol_core.policy.config import PolicyConfig
from sol_core.policy.correction import AimCorrection
from sol_core.policy.info import InputLayout, PolicyInfo
from sol_core.policy.network import BlockCache, DamageNetwork, JointNetwork, level_values
from sol_core.policy.prices import PriceTable, falling

__all__ = ["Policy", "StepInputs", "budget_shares", "build_network"]


AT_END = 1e-6  # share of dense
FORCE = 100.0  # unit of cost per unit of spend


class StepInputs(NamedTuple):
    """What T steps of N episodes look like to a policy.

    Attributes:
        rows: [N, T, layout.width], see ``inputs.py``.
        tokens: [N, T] int64, about to be fed.
        budget: [N, T, 8], see ``network.JointNetwork``.
        aims: [N, T, 3], mean spend to aim for at this step, shares of dense.
    """

    rows: Tensor
    tokens: Tensor
    budget: Tensor
    aims: Tensor


class Policy:
    """Network and prices; chooses among the grid's levels.

    Attributes:
        info: what it is.
        network: DamageNetwork or JointNetwork.
        prices: per axis; unused by the joint network.
        correction: what to aim the prices at for a requested mean.
        embedding: [V, C] of the language model, to look tokens up in.
    """

    def __init__(
        self,
        info: PolicyInfo,
        network: DamageNetwork | JointNetwork,
        prices: Sequence[PriceTable],
        embedding: Tensor,
        correction: AimCorrection | None = None,
    ) -> None:
        self.correction = AimCorrection() if correction is None else correction
        self.info, self.network, self.embedding = info, network, embedding
        self.prices = list(prices)
        device = embedding.device
        self.levels = [values.to(device) for values in level_values(info.grid)]
        network.to(device).eval()

    @property
    def num_heads(self) -> int:
        """Choices per step: three, or one over the joint actions."""
        return 1 if isinstance(self.network, JointNetwork) else 3

    def logits(
        self, inputs: StepInputs, cache: BlockCache | None = None
    ) -> tuple[list[Tensor], BlockCache]:
        """Unnormalised log probabilities of T steps of N episodes.

        Returns: one [N, T, levels] per axis, or a single [N, T, A]; and the step cache. The
            most probable level is the one the price rule chooses.
        """
        embedded = self.embedding[inputs.tokens]
        if isinstance(self.network, JointNetwork):
            joint, cache = self.network(inputs.rows, embedded, inputs.budget, cache)
            return [joint], cache
        log_damages, _, cache = self.network(inputs.rows, embedded, cache)
        sharpness = self.network.log_sharpness.exp()
        logits = []
        for axis, log_damage in enumerate(log_damages):
            aim, levels = inputs.aims[..., axis, None], self.levels[axis]
            price = self.prices[axis].price(aim)
            # In units of spend, so that how sure a choice is does not depend on the budget.
            cost = falling(log_damage.exp()) / price + levels
            # An aim at an end of the axis leaves nothing to choose, whatever is predicted.
            cost = torch.where(aim >= levels[-1] - AT_END, FORCE * (levels[-1] - levels), cost)
            cost = torch.where(aim <= levels[0] + AT_END, FORCE * (levels - levels[0]), cost)
            logits.append(-sharpness[axis] * (cost - cost.amin(-1, keepdim=True).detach()))
        return logits, cache

    def axis_levels(self, choices: Tensor) -> Tensor:
        """Choices [..., num_heads] int64 → level index per axis [..., 3]."""
        if self.num_heads == 3:
            return choices
        num_channels, num_bits = len(self.levels[1]), len(self.levels[2])
        joint = choices[..., 0]
        return torch.stack(
            (
                joint // (num_channels * num_bits),
                joint // num_bits % num_channels,
                joint % num_bits,
            ),
            -1,
        )

    def spends(self, levels: Tensor) -> Tensor:
        """Level indices [..., 3] → spend as shares of dense [..., 3]."""
        return torch.stack(
            [values[levels[..., axis]] for axis, values in enumerate(self.levels)], -1
        )

    def check_model(self, fingerprint: str) -> None:
        """Raises: PolicyError when it was trained for another model."""
        if fingerprint != self.info.fingerprint:
            raise PolicyError(
                f"policy {self.info.name!r} was trained for {self.info.model} "
                f"(fingerprint {self.info.fingerprint[:8]}), not for this model "
                f"({fingerprint[:8]}): choose a policy of this model, or train one"
            )


def build_network(
    layout: InputLayout, grid: ActionGrid, config: PolicyConfig
) -> DamageNetwork | JointNetwork:
    """A fresh network; its weights come from torch's global random state."""
    if config.network == "joint":
        return JointNetwork(layout, grid, config)
    return DamageNetwork(layout, grid, config)


def budget_shares(budgets: Sequence[Budget]) -> Tensor:
    """Requested means as shares of dense: [R, 3]."""
    return torch.tensor(
        [[b.keep_fraction, b.channel_keep_ratio, b.bit_width / 16] for b in budgets]
    )
