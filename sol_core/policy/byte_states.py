"""Keeps what a finished policy says in its own episodes, for prices on bytes.

The episodes are played at mixes of shares: at budgets drawn over all of each axis, predictions of
attention earned twice the trust that they deserve there (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import ActionGrid, Budget, by_need
from sol_core.budgets import MixTable, mix_table
from sol_core.errors import ConfigError
from sol_core.models.loading import LanguageModel
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, Floats, SampleStates
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import Policy
from sol_core.policy.scheduler import PolicyScheduler

HIGHEST = 0.95  # share of the dense bytes


class Played(NamedTuple):
    """Some greedy episodes."""

    asked: Tensor  # [E, axes], means, shares of dense
    spent: Tensor  # [E, axes], means, shares of dense
    shapes: Tensor  # [E, T, axes, 2], sensitivity and slope that the network said
    levels: Tensor  # [E, T, axes] int64, taken then
    damages: Tensor  # [E, T] fp32, KL to the dense step, nats

    @staticmethod
    @torch.no_grad()
    def of(policy: Policy, scheduler: PolicyScheduler, asked: Tensor, damages: Tensor) -> Played:
        """The episodes of a scheduler that kept its steps."""
        shapes, _ = policy.shapes(scheduler.inputs())
        levels = torch.stack([policy.axis_levels(step.choices) for step in scheduler.steps], 1)
        spent = scheduler.mean_spends()
        return Played(asked, spent.cpu(), shapes.cpu(), levels.cpu(), damages)


def mixes_to_play(model: LanguageModel, grid: ActionGrid) -> MixTable | None:
    """The model's mixes under a grid with pages by need; None where a level was not measured."""
    try:
        mixes = mix_table(model, by_need(grid))
    except ConfigError:
        return None
    return mixes if BytePrices.fits(grid, mixes) else None


def draw_shares(
    mixes: MixTable, contexts: Sequence[int], generator: torch.Generator
) -> list[Budget]:
    """Mean spends of the mixes at shares drawn evenly between the lowest and ``HIGHEST``."""
    places = torch.rand(len(contexts), generator=generator).tolist()
    return [
        mixes.mean(lowest + place * (HIGHEST - lowest), context + 1)
        for place, context in zip(places, contexts, strict=True)
        for lowest in (mixes.lowest(context + 1),)
    ]


def sample_states(
    policy: Policy, played: Sequence[Played], contexts: Sequence[int]
) -> SampleStates:
    """States for prices on bytes, of a policy whose first axes are ``BYTE_AXES``.

    Args:
        played: of each text, an episode for each of ``contexts``, tokens before it.
    """
    axes = slice(len(BYTE_AXES))
    shapes, levels, damages = (
        torch.cat([getattr(episode, name) for episode in played])
        for name in ("shapes", "levels", "damages")
    )
    network = policy.network
    assert isinstance(network, DamageNetwork)

    @torch.no_grad()
    def log_damages(given: Floats) -> Floats:
        whole = torch.zeros_like(shapes)
        whole[:, :, axes] = torch.from_numpy(given).to(whole)
        of_levels = network.log_damages(whole.to(policy.embedding.device)).cpu()
        taken = of_levels.gather(-1, levels[..., None])[:, :, axes, 0]
        total: Floats = taken.logsumexp(-1).double().numpy()
        return total

    spends = policy.spends(levels.to(policy.embedding.device)).cpu()

    return SampleStates.of(
        shapes[:, :, axes].double().numpy(),
        spends[:, :, axes].double().numpy(),
        np.tile(np.asarray(contexts, np.float64), len(played)),
        damages.double().numpy(),
        log_damages,
        len(played),
    )
