"""The phase "calibrating": sets prices from episodes that the policy itself plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import Budget
from sol_core.budgets.mixes import MixTable, mix_table
from sol_core.errors import ConfigError
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, Floats, SampleStates
from sol_core.policy.policy import Policy
from sol_core.policy.prices import PriceTable
from sol_core.policy.scheduler import PolicyScheduler
from sol_core.progress import WorkEvent
from sol_core.training.config import PRICED_TEXTS
from sol_core.training.held_out import measure
from sol_core.training.run_state import RunState
from sol_core.training.text_prefill import draw_budgets, prefill_text

T = TypeVar("T")
HIGHEST = 0.95  # share of the dense bytes


class CalibrationEpisodes(NamedTuple):
    """E greedy episodes of T steps, and their damage."""

    shapes: Tensor  # [E, T, axes, 2], predicted sensitivity and slope
    levels: Tensor  # [E, T, axes] int64, the levels taken
    damages: Tensor  # [E, T] fp32, KL to the dense step, nats


def calibrate(state: RunState) -> Iterator[WorkEvent]:
    """Measure prices per axis, then sample states for prices on bytes, on unused texts."""
    policy, config = state.policy, state.config
    if not policy.prices:
        return
    state.metrics = {}
    seen: list[list[Tensor]] = []
    texts = range(PRICED_TEXTS + config.calibration_texts)
    priced, others = texts[:PRICED_TEXTS], texts[PRICED_TEXTS:]

    def unused_tokens(number: int) -> list[int]:
        """Return a text that GRPO has not used."""
        return state.texts.nth("grpo", config.grpo.updates + number)

    def damages(number: int) -> list[Tensor]:
        generator = state.generator_of("calibrate", number)
        budgets = draw_budgets(2 * len(config.starts), config.grid, generator)
        return _damages_of(policy, _play(state, unused_tokens(number), budgets).shapes)

    yield from _play_texts(state, priced, 2, damages, seen)
    policy.prices = measured_prices(policy, seen)
    if (mixes := _mixes_to_play(state)) is not None:
        played: list[CalibrationEpisodes] = []

        def at_shares(number: int) -> CalibrationEpisodes:
            budgets = draw_shares(mixes, config.starts, state.generator_of("calibrate", number))
            if config.shares_from != "corpus":
                return _play(state, state.texts.nth(config.shares_from, number), budgets)
            return _play(state, unused_tokens(number), budgets)

        yield from _play_texts(state, others, 1, at_shares, played)
        policy.states = sample_states(policy, played, config.starts)
    yield from measure(state)
    # Saved only now: an interrupted run restarts calibration.
    state.keep_prices()
    state.unsaved_reports = 0


def _play_texts(
    state: RunState, texts: range, rows: int, play: Callable[[int], T], played: list[T]
) -> Iterator[WorkEvent]:
    """Play more texts, with ``rows`` budgets a window, until the time limit."""
    for number in texts:
        played.append(play(number))
        state.calibrated += 1
        state.unsaved_reports += 1
        state.decisions += rows * state.config.windows * state.config.steps
        yield state.report("calibrating")
        if state.is_past(1.0):
            return


@torch.no_grad()
def _play(state: RunState, tokens: list[int], budgets: Sequence[Budget]) -> CalibrationEpisodes:
    """Play greedy episodes from every window of a text, each with equally many budgets."""
    policy, starts = state.policy, state.config.starts
    text = prefill_text(state.model.lm, tokens, state.config)
    scheduler = PolicyScheduler(policy, budgets, keep_steps=True)
    rows = len(budgets) // len(starts)
    damages = text.rollout(starts, rows, scheduler).kl.cpu()
    return CalibrationEpisodes(
        policy.shapes(scheduler.inputs())[0].cpu(),
        torch.stack([policy.axis_levels(step.choices) for step in scheduler.steps], 1).cpu(),
        damages,
    )


def _mixes_to_play(state: RunState) -> MixTable | None:
    """Return the model's mixes under the grid; None if a level was not measured."""
    try:
        mixes = mix_table(state.model, state.config.grid)
    except ConfigError:
        return None
    return mixes if BytePrices.fits(state.config.grid, mixes) else None


def draw_shares(
    mixes: MixTable, contexts: Sequence[int], generator: torch.Generator
) -> list[Budget]:
    """Draw shares evenly from the lowest to ``HIGHEST``; return their mixes' mean spends."""
    drawn = torch.rand(len(contexts), generator=generator).tolist()
    lowest = [mixes.lowest_share(context + 1) for context in contexts]
    return [
        mixes.mean(low + fraction * (HIGHEST - low), context + 1)
        for fraction, low, context in zip(drawn, lowest, contexts, strict=True)
    ]


def sample_states(
    policy: Policy, played: Sequence[CalibrationEpisodes], contexts: Sequence[int]
) -> SampleStates:
    """Choose sample states for prices on bytes; the policy's first axes are ``BYTE_AXES``."""
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
    """Predict damage per axis, [M, levels] each on the CPU, for M = N · T states."""
    network = policy.damage_network
    network.eval()
    encoded, _ = network.encoder(rows.to(policy.embedding.device), policy.embedding[tokens])
    return _damages_of(policy, network.shapes(encoded))


@torch.no_grad()
def _damages_of(policy: Policy, shapes: Tensor) -> list[Tensor]:
    """Compute damages per axis from sensitivity and slope [N, T, axes, 2]."""
    log_damages = policy.damage_network.log_damages(shapes.to(policy.embedding.device))
    return [axis.flatten(0, 1).exp().cpu() for axis in policy.split_by_head(log_damages)]


def measured_prices(policy: Policy, seen: Sequence[Sequence[Tensor]]) -> list[PriceTable]:
    """Compute prices per axis from the damages of several groups of states."""
    return [
        PriceTable.measure(torch.cat(damages), levels.cpu())
        for damages, levels in zip(zip(*seen, strict=True), policy.levels, strict=True)
    ]
