"""The phase "calibrating": prices and corrected aims, from episodes that a policy itself plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import Budget, by_need
from sol_core.budgets.mixes import MixTable, mix_table
from sol_core.errors import ConfigError
from sol_core.policy import Policy, PolicyScheduler
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, Floats, SampleStates
from sol_core.policy.policy import budget_shares
from sol_core.policy.prices import AimCorrection, PriceTable
from sol_core.progress import WorkEvent
from sol_core.training.config import PRICED_TEXTS
from sol_core.training.measure import measure
from sol_core.training.rollouts import draw_budgets, prefill_text
from sol_core.training.run_state import RunState

T = TypeVar("T")
HIGHEST = 0.95  # share of the dense bytes


class Played(NamedTuple):
    """Some greedy episodes."""

    asked: Tensor  # [E, axes], means, shares of dense
    spent: Tensor  # [E, axes], means, shares of dense
    shapes: Tensor  # [E, T, axes, 2], sensitivity and slope that the network said
    levels: Tensor  # [E, T, axes] int64, taken then
    damages: Tensor  # [E, T] fp32, KL to the dense step, nats


def calibrate(state: RunState) -> Iterator[WorkEvent]:
    """Prices, then corrected aims, on fresh texts."""
    policy, config, ranks = state.policy, state.config, state.ranks
    if not policy.prices:
        return
    state.metrics = {}
    seen: list[list[Tensor]] = []
    texts = range(PRICED_TEXTS + config.calibration_texts)
    priced, others = texts[:PRICED_TEXTS], texts[PRICED_TEXTS:]
    yield from _play_texts(
        state, priced, 2, lambda n: _damages_of(policy, _play(state, n, 2).shapes), seen
    )
    policy.prices = ranks.lead(lambda: _prices_from(policy, seen))
    mixes, played = _mixes_to_play(state), list[Played]()
    yield from _play_texts(state, others, 1, lambda n: _play(state, n, 1, mixes), played)

    def correction() -> AimCorrection:
        asked, spent = (torch.cat([getattr(p, n) for p in played]) for n in ("asked", "spent"))
        contexts = torch.tensor(config.starts).repeat(len(played))
        return AimCorrection.fit(asked, spent, contexts, policy.levels)

    policy.correction = ranks.lead(correction)
    if mixes is not None:
        of_shares = [text for place, text in enumerate(played) if _at_shares(PRICED_TEXTS + place)]
        policy.states = ranks.lead(lambda: sample_states(policy, of_shares, config.starts))
    yield from measure(state)
    # Saved only now: a run that is cut off here calibrates again from where it began.
    state.keep_prices()
    state.begun_anew = 0


def _play_texts(
    state: RunState, texts: range, rows: int, play: Callable[[int], T], played: list[T]
) -> Iterator[WorkEvent]:
    """Add to what was played, with ``rows`` budgets a window, until the time is over."""
    for start in range(0, len(texts), state.ranks.size):
        numbers = texts[start : start + state.ranks.size]
        played += state.ranks.split(numbers, play)
        state.calibrated += len(numbers)
        state.begun_anew += 1
        state.decisions += len(numbers) * rows * state.config.windows * state.config.steps
        yield state.report("calibrating")
        if state.is_past(1.0):
            return


@torch.no_grad()
def _play(state: RunState, number: int, rows: int, mixes: MixTable | None = None) -> Played:
    """Greedy episodes at random budgets from every window of a text not yet used by GRPO."""
    policy, config = state.policy, state.config
    generator = state.generator_of("calibrate", number)
    tokens = state.texts.nth("grpo", config.grpo.updates * config.grpo.texts + number)
    if mixes is not None and _at_shares(number):
        budgets = draw_shares(mixes, config.starts, generator)
        if config.shares_from != "corpus":
            tokens = state.texts.nth(config.shares_from, number)
    else:
        budgets = draw_budgets(rows * len(config.starts), config.grid, generator)
    text = prefill_text(state.model.lm, tokens, config)
    scheduler = PolicyScheduler(policy, budgets, keep_steps=True)
    scored = [scores.kl.cpu() for scores in text.rollout(config.starts, rows, scheduler)]
    return Played(
        budget_shares(budgets),
        scheduler.mean_spends().cpu(),
        policy.shapes(scheduler.inputs())[0].cpu(),
        torch.stack([policy.axis_levels(step.choices) for step in scheduler.steps], 1).cpu(),
        torch.stack(scored, 1),
    )


def _at_shares(number: int) -> bool:
    """Every other text is played at mixes of shares, where the grid has any."""
    return number % 2 == 0


def _mixes_to_play(state: RunState) -> MixTable | None:
    """The model's mixes under a grid with pages by need; None where a level was not measured."""
    try:
        mixes = mix_table(state.model, by_need(state.config.grid))
    except ConfigError:
        return None
    return mixes if BytePrices.fits(state.config.grid, mixes) else None


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


@torch.no_grad()
def damages_at(policy: Policy, rows: Tensor, tokens: Tensor) -> list[Tensor]:
    """Predicted damage per axis, [M, levels] each on the CPU, in states of N · T = M steps."""
    network = policy.damage_network
    network.eval()
    encoded, _ = network.encoder(rows.to(policy.embedding.device), policy.embedding[tokens])
    return _damages_of(policy, network.shapes(encoded))


@torch.no_grad()
def _damages_of(policy: Policy, shapes: Tensor) -> list[Tensor]:
    """From sensitivity and slope, [N, T, axes, 2]."""
    log_damages = policy.damage_network.log_damages(shapes.to(policy.embedding.device))
    return [axis.flatten(0, 1).exp().cpu() for axis in policy.per_head(log_damages)]


def set_prices(state: RunState, seen: Sequence[Sequence[Tensor]]) -> None:
    """Prices from the damages of several groups of states."""
    state.set_prices(state.ranks.lead(lambda: _prices_from(state.policy, seen)))


def _prices_from(policy: Policy, seen: Sequence[Sequence[Tensor]]) -> list[PriceTable]:
    return [
        PriceTable.measure(torch.cat(damages), levels.cpu())
        for damages, levels in zip(zip(*seen, strict=True), policy.levels, strict=True)
    ]
