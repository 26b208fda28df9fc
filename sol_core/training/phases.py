"""The phases of a run: label, warm start, GRPO, calibrate, measure.

Each is a list of small units that seed their own random numbers, so a run can stop after any of
them. A unit's last event is a report in the phase's own name; all ranks make the same reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from sol_core.budgets.mixes import MixTable
from sol_core.policy import PolicyScheduler
from sol_core.policy.policy import budget_shares
from sol_core.policy.prices import AimCorrection
from sol_core.progress import WorkEvent, WorkSample
from sol_core.training.config import PRICED_TEXTS
from sol_core.training.measure import (
    HeldOut,
    Played,
    draw_shares,
    held_out_budgets,
    measure_held_out,
    mixes_to_play,
    sample_states,
)
from sol_core.training.rollouts import RolloutBatch, draw_budgets, prefill_text, roll_out
from sol_core.training.run_state import RunState
from sol_core.training.update import damages_at, damages_of, grpo_update, prices_from, warm_step
from sol_core.training.warm_start import (
    LABELS_FOLDER,
    LabelledSteps,
    batches_of_epoch,
    label_text,
    read_labels,
    write_labels,
)

T = TypeVar("T")
MEASURES_PER_PHASE = 4  # at least; else by the clock (``RunState.is_measure_due``)
# When a phase ends at the latest, as shares of a time limit; calibrating has the rest.
LABEL_SHARE, WARM_SHARE, GRPO_SHARE = 0.55, 0.65, 0.9
CALIBRATE_EVERY = 5  # GRPO updates
CALIBRATION_EPISODES = 400


def label(state: RunState) -> Iterator[WorkEvent]:
    """Label texts under random schedules; every text is a file of its own."""
    ranks, progress = state.ranks, state.progress
    store = state.folder / LABELS_FOLDER
    ranks.lead(lambda: store.mkdir(exist_ok=True))
    limit = state.config.warm_start.texts
    share = LABEL_SHARE if state.config.grpo.updates else GRPO_SHARE * LABEL_SHARE / WARM_SHARE
    while progress.labelled < limit:
        if progress.labelled and state.is_past(share):
            break
        numbers = range(progress.labelled, min(progress.labelled + ranks.size, limit))
        _label_texts(state, store, numbers)
        progress.labelled = numbers.stop
        yield state.report("labelling")
    progress.label_limit = progress.labelled


def _label_texts(state: RunState, store: Path, numbers: range) -> None:
    """Each rank labels its share of those texts that have no file; the lead writes all files."""
    ranks = state.ranks
    missing = ranks.lead(lambda: [n for n in numbers if not _label_file(store, n).exists()])
    made = ranks.collect(missing, lambda number: _label(state, number))

    def keep() -> float:
        for number, labels in zip(missing, made, strict=True):
            write_labels(labels, _label_file(store, number))
        kept = [read_labels(_label_file(store, number)).damage for number in numbers]
        return float(torch.stack(kept).mean())

    state.metrics["loss"] = ranks.lead(keep)
    state.decisions += sum(part.damage.numel() for part in made)


def _label(state: RunState, number: int) -> LabelledSteps:
    tokens, generator = state.texts.nth("label", number), state.generator_of("label", number)
    labels = label_text(state.model.lm, tokens, state.config, generator)
    state.check_finite({"a label": labels.damage, "an input": labels.rows})
    return labels


def _label_file(store: Path, number: int) -> Path:
    return store / f"{number:05d}.safetensors"


def warm_start(state: RunState) -> Iterator[WorkEvent]:
    """Gradient steps on the labels, prices and held-out quality along the way."""
    labels, config = _labels(state, state.progress.label_limit or 0), state.config
    episodes = labels.damage.shape[0]
    per_epoch = len(batches_of_epoch(episodes, config.seed, 0))
    total = per_epoch * config.warm_start.epochs
    every = max(1, -(-total // MEASURES_PER_PHASE))
    share = WARM_SHARE if config.grpo.updates else GRPO_SHARE
    while state.progress.warm_steps < total and not state.is_past(share):
        step = state.progress.warm_steps
        if step == 0:
            encoder = state.policy.damage_network.encoder
            encoder.fit_scales(labels.rows[:: max(1, episodes // 2000)])
        epoch, place = divmod(step, per_epoch)
        index = batches_of_epoch(episodes, config.seed, epoch)[place]
        state.metrics["loss"] = warm_step(state, labels.take(index), step, total)
        state.progress.warm_steps += 1
        is_mark = (step + 1) % every == 0 or step + 1 == total
        if is_mark or state.is_measure_due():
            _price(state, labels)
            yield from measure(state)
        yield state.report("warm start")
    _price(state, labels)
    state.optimiser.state.clear()  # GRPO starts with moments of its own


def _price(state: RunState, labels: LabelledSteps) -> None:
    """Prices from states among the labels."""
    episodes = labels.damage.shape[0]
    sample = labels.take(torch.arange(0, episodes, max(1, episodes // CALIBRATION_EPISODES)))
    _set_prices(state, [damages_at(state.policy, sample)])


def _labels(state: RunState, count: int) -> LabelledSteps:
    """The labels of the first texts; the lead has the files and hands them out one by one."""
    store = state.folder / LABELS_FOLDER

    def read(number: int) -> LabelledSteps:
        return state.ranks.lead(lambda: read_labels(_label_file(store, number)))

    parts = [read(number) for number in range(count)]
    return LabelledSteps(*(torch.cat(values) for values in zip(*parts, strict=True)))


def grpo(state: RunState) -> Iterator[WorkEvent]:
    """Rollouts and updates; prices follow the policy's own states."""
    updates = state.config.grpo.updates
    state.metrics = {}
    every = max(1, -(-updates // MEASURES_PER_PHASE))
    while state.progress.updates < updates and not state.is_past(GRPO_SHARE):
        _update(state)
        is_mark = state.progress.updates % every == 0 or state.progress.updates == updates
        if is_mark or state.is_measure_due():
            yield from measure(state)
        yield state.report("grpo")


def _update(state: RunState) -> None:
    """Each rank rolls out its share of an update's texts; gradients are averaged over all."""
    config, ranks = state.config, state.ranks
    first = state.progress.updates * config.grpo.texts
    numbers = range(first, first + config.grpo.texts)
    batches = ranks.each(lambda: {n: _roll_out(state, n) for n in ranks.share(numbers)})
    state.metrics |= grpo_update(state, list(batches.values()))
    rows = min(config.grpo.windows, config.windows) * config.grpo.rollouts
    state.decisions += len(numbers) * rows * config.steps
    state.progress.updates += 1
    if state.policy.prices and state.progress.updates % CALIBRATE_EVERY == 0:
        # From this update alone: what a resumed run no longer has must not decide.
        seen = ranks.collect(numbers, lambda n: damages_at(state.policy, batches[n].inputs))
        _set_prices(state, seen)


def _roll_out(state: RunState, number: int) -> RolloutBatch:
    tokens, generator = state.texts.nth("grpo", number), state.generator_of("grpo", number)
    text = prefill_text(state.model.lm, tokens, state.config.grid, state.config.starts)
    batch = roll_out(state.policy, text, state.config, generator)
    state.check_finite({"the reward": batch.reward, "the advantage": batch.advantage})
    return batch


def calibrate(state: RunState) -> Iterator[WorkEvent]:
    """Prices, then corrected aims, from episodes that the policy itself plays on fresh texts."""
    policy, config, ranks = state.policy, state.config, state.ranks
    if not policy.prices:
        return
    state.metrics = {}
    seen: list[list[Tensor]] = []
    texts = range(PRICED_TEXTS + config.calibration_texts)
    priced, others = texts[:PRICED_TEXTS], texts[PRICED_TEXTS:]
    yield from _play_texts(
        state, priced, 2, lambda n: damages_of(policy, _play(state, n, 2).shapes), seen
    )
    policy.prices = ranks.lead(lambda: prices_from(policy, seen))
    mixes, played = mixes_to_play(state.model, config.grid), list[Played]()
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
    state.set_prices(policy.prices, policy.correction, policy.states)
    state.begun_anew = 0


def _play_texts(
    state: RunState, texts: range, rows: int, play: Callable[[int], T], played: list[T]
) -> Iterator[WorkEvent]:
    """Add to what was played, with ``rows`` budgets a window, until the time is over."""
    for start in range(0, len(texts), state.ranks.size):
        numbers = texts[start : start + state.ranks.size]
        played += state.ranks.collect(numbers, play)
        state.calibrated += len(numbers)
        state.begun_anew += 1
        state.decisions += len(numbers) * rows * state.config.windows * state.config.steps
        yield state.report("calibrating")
        if state.is_past(1.0):
            return


def _at_shares(number: int) -> bool:
    """Every other text is played at mixes of shares, where the grid has any."""
    return number % 2 == 0


def _play(state: RunState, number: int, rows: int, mixes: MixTable | None = None) -> Played:
    """Greedy episodes at random budgets from every window of a text not yet used by GRPO."""
    config = state.config
    starts = config.starts
    generator = state.generator_of("calibrate", number)
    tokens = state.texts.nth("grpo", config.grpo.updates * config.grpo.texts + number)
    if mixes is not None and _at_shares(number):
        budgets = draw_shares(mixes, starts, generator)
        if config.shares_from != "corpus":
            tokens = state.texts.nth(config.shares_from, number)
    else:
        budgets = draw_budgets(rows * len(starts), config.grid, generator)
    text = prefill_text(state.model.lm, tokens, config.grid, starts)
    scheduler = PolicyScheduler(state.policy, budgets, keep_steps=True)
    rollout = text.rollout(starts, rows, scheduler, config.steps, config.grid)
    damages = torch.stack([scores.kl.cpu() for scores in rollout], 1)
    return Played.of(state.policy, scheduler, budget_shares(budgets), damages)


def _set_prices(state: RunState, seen: Sequence[Sequence[Tensor]]) -> None:
    state.set_prices(state.ranks.lead(lambda: prices_from(state.policy, seen)))


def measure(state: RunState) -> Iterator[WorkEvent]:
    """Held-out quality of the policy now, and a sample text."""
    yield state.report("measuring")
    held_out = _held_out(state)
    with state.measuring():
        metrics, first = measure_held_out(state.policy, held_out, state.config, state.ranks)
    state.check_finite(metrics)
    state.progress.measured = dict(metrics)
    before, state.metrics = state.metrics, state.metrics | metrics
    event = state.report("measuring")
    state.metrics = before
    yield event
    tokenizer = state.model.tokenizer
    context = list(held_out.texts[0][: state.config.context])
    record = {
        "type": "sample",
        "step": state.progress.reports,
        "context": str(tokenizer.decode(context[-40:])),
        "budget": held_out_budgets(state.config.grid)[0].as_tuple(),
        "tokens": [
            {"text": str(tokenizer.decode([token])), "action": list(action), "kl": damage}
            for token, action, damage in first
        ],
    }
    yield WorkSample(record)


def _held_out(state: RunState) -> HeldOut:
    """Read once, before anything of it is timed."""
    ranks = state.ranks
    if state.held_out is None:
        texts = ranks.each(lambda: state.texts.held_out(state.config.measured_texts))
        state.held_out = held_out = HeldOut(state.model.lm, texts)
        own = ranks.share(range(len(texts)))
        ranks.each(lambda: [held_out.prefill(number, state.config) for number in own])
    return state.held_out
