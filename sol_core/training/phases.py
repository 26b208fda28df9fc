"""The phases of a run: label, warm start, GRPO, calibrate, measure. Each is a list of small units.

A unit (a text, a batch, an update) seeds its own random numbers, so a run can stop after any
of them and go on later as if it had not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from sol_core.actions import Budget
from sol_core.policy import PolicyScheduler
from sol_core.policy.correction import AimCorrection
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import budget_shares
from sol_core.training.config import PRICED_TEXTS
from sol_core.training.events import TrainEvent, TrainSample
from sol_core.training.labels import join_labels, label_text, read_labels, write_labels
from sol_core.training.measure import MEASURED_BUDGETS, measure_held_out
from sol_core.training.rollouts import draw_budgets, roll_out
from sol_core.training.run_state import RunState
from sol_core.training.update import grpo_update, prices_from, warm_step
from sol_core.training.warm_start import batches_of_epoch
from sol_core.training.windows import prefill_text

__all__ = ["calibrate", "grpo", "label", "measure", "warm_start"]

MEASURES_PER_PHASE = 4
# When a phase ends at the latest, as shares of a time limit; calibrating has the rest.
LABEL_SHARE, WARM_SHARE, GRPO_SHARE = 0.55, 0.65, 0.9
CALIBRATE_EVERY = 5  # GRPO updates
CALIBRATION_EPISODES = 400


def label(state: RunState) -> Iterator[TrainEvent]:
    """Label texts under random schedules; every text is a file of its own."""
    store = state.folder / "labels"
    store.mkdir(exist_ok=True)
    limit = state.config.warm_start.texts
    share = LABEL_SHARE if state.config.grpo.updates else GRPO_SHARE * LABEL_SHARE / WARM_SHARE
    while state.progress.labelled < limit:
        if state.progress.labelled and state.is_past(share):
            break
        number = state.progress.labelled
        path = store / f"{number:05d}.safetensors"
        if not path.exists():
            labels = label_text(
                state.model.lm,
                state.texts.labelling(number),
                state.config,
                state.generator_of("label", number),
            )
            state.check_finite({"a label": labels.damage, "an input": labels.rows})
            write_labels(labels, path)
            state.metrics["loss"] = float(labels.damage.mean())
            state.count_decisions(labels.damage.numel())
        state.progress.labelled += 1
        yield state.report("labelling")
    state.progress.label_limit = state.progress.labelled


def warm_start(state: RunState) -> Iterator[TrainEvent]:
    """Gradient steps on the labels, prices and held-out quality along the way."""
    store = state.folder / "labels"
    count = state.progress.label_limit or 0
    labels = join_labels([read_labels(store / f"{n:05d}.safetensors") for n in range(count)])
    network, config = state.policy.network, state.config
    assert isinstance(network, DamageNetwork)
    episodes = labels.damage.shape[0]
    if state.progress.warm_steps == 0:
        network.encoder.fit_scales(labels.rows[:: max(1, episodes // 2000)])
    sample = labels.take(torch.arange(0, episodes, max(1, episodes // CALIBRATION_EPISODES)))
    per_epoch = len(batches_of_epoch(episodes, config.seed, 0))
    total = per_epoch * config.warm_start.epochs
    every = max(1, -(-total // MEASURES_PER_PHASE))
    share = WARM_SHARE if config.grpo.updates else GRPO_SHARE
    while state.progress.warm_steps < total and not state.is_past(share):
        step = state.progress.warm_steps
        epoch, place = divmod(step, per_epoch)
        index = batches_of_epoch(episodes, config.seed, epoch)[place]
        torch.manual_seed(state.seed_of("warm", step))
        state.metrics["loss"] = warm_step(state, labels.take(index), step, total)
        state.progress.warm_steps += 1
        if (step + 1) % every == 0 or step + 1 == total:
            state.set_prices(prices_from(state.policy, [(sample.rows, sample.tokens)]))
            yield from measure(state)
        yield state.report("warm start")
    state.set_prices(prices_from(state.policy, [(sample.rows, sample.tokens)]))
    state.optimiser.state.clear()  # GRPO starts with moments of its own


def grpo(state: RunState) -> Iterator[TrainEvent]:
    """Rollouts and updates; prices follow the policy's own states."""
    config = state.config
    state.metrics = {}
    every = max(1, -(-config.grpo.updates // MEASURES_PER_PHASE))
    while state.progress.updates < config.grpo.updates and not state.is_past(GRPO_SHARE):
        number = state.progress.updates
        tokens = state.texts.rollout(number)
        text = prefill_text(state.model.lm, tokens, config.grid)
        batch = roll_out(state.policy, text, config, state.generator_of("grpo", number))
        state.metrics |= grpo_update(state, batch)
        state.metrics["reward"] = batch.reward
        names = ("gap_keep", "gap_channels", "gap_bits")
        state.metrics |= dict(zip(names, batch.gap, strict=True))
        state.count_decisions(batch.advantage.numel())
        state.progress.updates += 1
        if state.policy.prices and (number + 1) % CALIBRATE_EVERY == 0:
            # From this update alone: what a resumed run no longer has must not decide.
            state.set_prices(prices_from(state.policy, [batch.inputs]))
        if (number + 1) % every == 0 or number + 1 == config.grpo.updates:
            yield from measure(state)
        yield state.report("grpo")


def calibrate(state: RunState) -> Iterator[TrainEvent]:
    """Prices, then corrected aims, from episodes that the finished policy itself plays.

    Random schedules leave other states behind than a good policy does: priced on those, it
    spent 0.05 less than asked (docs/results.md). Texts are fresh ones: on texts that it
    learnt from, a network is surer of itself than elsewhere.
    """
    policy, config = state.policy, state.config
    if not policy.prices:
        return
    state.metrics = {}
    played = []
    for number in range(PRICED_TEXTS):
        scheduler, _ = _play(state, number, 2)
        played.append(scheduler.inputs())
        yield state.report("calibrating")
    policy.prices = prices_from(policy, played)
    asked, spent = [], []
    contexts = torch.tensor(config.starts)
    for number in range(PRICED_TEXTS, PRICED_TEXTS + config.calibration_texts):
        scheduler, budgets = _play(state, number, 1)
        asked.append(budget_shares(budgets))
        spent.append(scheduler.mean_spends().cpu())
        yield state.report("calibrating")
        if state.is_past(1.0):
            break
    policy.correction = AimCorrection.fit(
        torch.cat(asked), torch.cat(spent), contexts.repeat(len(asked)), policy.levels
    )
    yield from measure(state)
    # Saved only now: a run that is cut off here calibrates again from where it began.
    state.set_prices(policy.prices, policy.correction)


def _play(state: RunState, number: int, rows: int) -> tuple[PolicyScheduler, list[Budget]]:
    """Greedy episodes at random budgets from every window of a text not yet used by GRPO."""
    config = state.config
    tokens = state.texts.rollout(config.grpo.updates + number)
    text = prefill_text(state.model.lm, tokens, config.grid)
    starts = config.starts
    generator = state.generator_of("calibrate", number)
    budgets = draw_budgets(rows * len(starts), config.grid, generator)
    scheduler = PolicyScheduler(state.policy, budgets, keep_steps=True)
    for _scores in text.rollout(starts, rows, scheduler, config.steps, config.grid):
        state.count_decisions(len(budgets))
    state.calibrated += 1
    return scheduler, budgets


def measure(state: RunState) -> Iterator[TrainEvent]:
    """Held-out quality now, and a sample text."""
    yield state.report("measuring")
    if not state.held_out:
        state.held_out = [
            prefill_text(state.model.lm, tokens, state.config.grid)
            for tokens in state.texts.held_out(state.config.held_out_texts)
        ]
    result = measure_held_out(state.policy, state.held_out, state.config)
    state.check_finite(result.metrics)
    state.progress.measured = dict(result.metrics)
    before = dict(state.metrics)
    state.metrics |= result.metrics
    yield state.report("measuring")
    state.metrics = before
    yield _sample(state, *result.first)


def _sample(
    state: RunState, tokens: list[int], actions: list[Any], damages: list[float]
) -> TrainSample:
    tokenizer = state.model.tokenizer
    context = state.held_out[0].tokens[: state.config.context].tolist()
    return TrainSample(
        state.progress.reports,
        str(tokenizer.decode(context[-40:])),
        MEASURED_BUDGETS[0].as_tuple(),
        tuple(
            {"text": str(tokenizer.decode([token])), "action": list(action), "kl": damage}
            for token, action, damage in zip(tokens, actions, damages, strict=True)
        ),
    )
