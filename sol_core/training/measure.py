"""Episodes that a policy plays: its quality beside static's at the same spend, its states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid, Budget, by_need
from sol_core.budgets.mixes import MixTable, mix_table
from sol_core.decoding.batch_scheduling import BatchScheduler, RowSchedulers
from sol_core.decoding.schedules import StaticScheduler
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, PolicyScheduler
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, Floats, SampleStates
from sol_core.policy.policy import budget_shares
from sol_core.training.config import TrainConfig, gap_metrics
from sol_core.training.ranks import Ranks
from sol_core.training.rollouts import TextPrefill, prefill_text

HIGHEST = 0.95  # share of the dense bytes
PLACES = (0.5, 0.65, 0.35)  # between the ends of an axis that lacks one of its three values
WINDOWS_PER_TEXT = 6


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
    """States for prices on bytes, of a policy whose first axes are ``BYTE_AXES``."""
    axes = slice(len(BYTE_AXES))
    shapes, levels, damages = (
        torch.cat([getattr(episode, name) for episode in played])
        for name in ("shapes", "levels", "damages")
    )
    network = policy.damage_network

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


def held_out_budgets(grid: ActionGrid) -> list[Budget]:
    """Three budgets that a grid's levels can meet: the same ones for every grid that holds them."""
    axes = []
    for axis, levels in zip(AXES, grid.levels(), strict=True):
        values, low, high = axis.measured, levels[0], levels[-1]
        holds = low <= min(values) and max(values) <= high
        axes.append(values if holds else [low + place * (high - low) for place in PLACES])
    return [Budget(*values) for values in zip(*axes, strict=True)]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Texts that training never sees; each is prefilled once, by the rank that plays it."""

    lm: FrozenLM
    texts: Sequence[Sequence[int]]
    _prefilled: dict[int, TextPrefill] = field(default_factory=dict)

    def prefill(self, number: int, config: TrainConfig) -> TextPrefill:
        if number not in self._prefilled:
            self._prefilled[number] = prefill_text(
                self.lm, self.texts[number], config.grid, config.starts
            )
        return self._prefilled[number]


def measure_held_out(
    policy: Policy, held_out: HeldOut, config: TrainConfig, ranks: Ranks
) -> tuple[dict[str, float], list[tuple[int, tuple[float, ...], float]]]:
    """Means over greedy policy and static at its spend; and a step's token id, action and kl."""
    starts = _starts(config)
    asked = held_out_budgets(config.grid)
    budgets = asked * len(starts)

    def greedy(_: int) -> PolicyScheduler:
        temperature = config.grpo.temperature  # of the entropy alone
        return PolicyScheduler(policy, budgets, temperature=temperature, keep_steps=True)

    played = _play_texts(greedy, held_out, config, ranks)
    grouped = played["spends"].unflatten(1, (len(starts), -1)).mean((0, 1, 3))  # [3 budgets, axes]
    realised = [_budget(shares, config.grid) for shares in grouped.tolist()]
    static = _play_texts(
        lambda n: _static(realised, n, len(starts), config), held_out, config, ranks
    )
    metrics = {
        **{name: float(played[name].mean()) for name in ("kl", "nll", "entropy")},
        "kl_static": float(static["kl"].mean()),
        "nll_static": float(static["nll"].mean()),
        "nll_dense": float(static["dense_nll"].mean()),
        **gap_metrics((grouped - budget_shares(asked)).mean(0).tolist()),
    }
    tokens = held_out.texts[0][starts[0] : starts[0] + config.steps]
    shares = played["spends"][0, 0].tolist()
    actions = [Action.of(_values(step)).as_tuple() for step in shares]
    first = zip(tokens, actions, played["kl"][0, 0].tolist(), strict=True)
    return metrics, list(first)


def _starts(config: TrainConfig) -> Sequence[int]:
    """Starts of the windows in each held-out text, in tokens."""
    count = min(WINDOWS_PER_TEXT, config.windows)
    every = config.windows // count
    return config.starts[: count * every : every]


def _play_texts(
    scheduler_of: Callable[[int], BatchScheduler],
    held_out: HeldOut,
    config: TrainConfig,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """kl, nll [texts, R, T], dense_nll [texts, B, T], spends and entropy of a scheduler a text."""
    names, starts = ("kl", "nll", "dense_nll", "spends"), _starts(config)

    def play(number: int) -> dict[str, Tensor]:
        text, scheduler = held_out.prefill(number, config), scheduler_of(number)
        rollout = text.rollout(starts, len(PLACES), scheduler, config.steps, config.grid)
        steps = [
            (
                *(getattr(scores, name).cpu() for name in names[:3]),
                torch.tensor([action.shares() for action in scores.step.actions]),
            )
            for scores in rollout
        ]
        columns = zip(names, zip(*steps, strict=True), strict=True)
        played = {name: torch.stack(column, 1) for name, column in columns}
        if isinstance(scheduler, PolicyScheduler):
            played["entropy"] = scheduler.entropies()
        return played

    parts = ranks.split(range(len(held_out.texts)), play)
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _budget(shares: Sequence[float], grid: ActionGrid) -> Budget:
    """Shares of dense as a budget; sums in fp32 may end beside a level that every step took."""
    axes = zip(AXES, _values(shares), grid.levels(), strict=True)
    return Budget(**{axis.field: min(max(value, some[0]), some[-1]) for axis, value, some in axes})


def _values(shares: Sequence[float]) -> list[float]:
    """Shares of dense as values of the axes."""
    return [share * axis.dense for axis, share in zip(AXES, shares, strict=True)]


def _static(
    budgets: Sequence[Budget], text: int, num_starts: int, config: TrainConfig
) -> RowSchedulers:
    """Static rows whose mixing goes on from window to window, so that the mean is met."""
    return RowSchedulers(
        [
            StaticScheduler(
                budget, config.grid, first_step=(text * num_starts + start) * config.steps
            )
            for start in range(num_starts)
            for budget in budgets
        ]
    )
