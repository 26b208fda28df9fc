"""Measures a policy's held-out quality beside static's at the same spend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import BatchScheduler, RowSchedules
from sol_core.decoding.schedules import StaticSchedule
from sol_core.policy.policy import budget_fractions
from sol_core.policy.scheduler import PolicyScheduler
from sol_core.progress import WorkEvent, WorkSample
from sol_core.reporting.verdict import block_interval
from sol_core.training.config import GAPS, TrainConfig
from sol_core.training.run_state import RunState
from sol_core.training.text_prefill import TextPrefill, prefill_text

FALLBACK_POINTS = (0.5, 0.65, 0.35)  # of an axis that lacks one of the three values
WINDOWS_PER_TEXT = 6


def held_out_budgets(grid: ActionGrid) -> list[Budget]:
    """Return three budgets that the grid can meet, the same for every grid that has them."""
    axes = []
    for axis, levels in zip(AXES, grid.levels(), strict=True):
        values, low, high = axis.measured, levels[0], levels[-1]
        holds = low <= min(values) and max(values) <= high
        axes.append(values if holds else [low + point * (high - low) for point in FALLBACK_POINTS])
    return [Budget(*values) for values in zip(*axes, strict=True)]


def measure(state: RunState) -> Iterator[WorkEvent]:
    """Measure the policy's held-out quality; yield it with a sample text."""
    config = state.config
    yield state.report("measuring")
    if not state.held_out:  # prefilled once, not counted as measuring
        texts = state.texts.held_out(config.measured_texts)
        state.held_out = [prefill_text(state.model.lm, text, config) for text in texts]
    with state.measuring():
        metrics, played = _metrics(state)
    state.check_finite(metrics)
    state.progress.measured = dict(metrics)
    yield state.report("measuring", metrics)
    tokenizer, text = state.model.tokenizer, state.held_out[0].tokens.tolist()
    first = _starts(config)[0]
    steps = zip(
        text[first : first + config.steps],
        played["spends"][0, 0].tolist(),
        played["kl"][0, 0].tolist(),
        strict=True,
    )
    record = {
        "type": "sample",
        "step": state.progress.reports,
        "context": str(tokenizer.decode(text[: config.context][-40:])),
        "budget": held_out_budgets(config.grid)[0].as_tuple(),
        "tokens": [
            {
                "text": str(tokenizer.decode([token])),
                "action": list(Action.of(_values(fractions)).as_tuple()),
                "kl": damage,
            }
            for token, fractions, damage in steps
        ],
    }
    yield WorkSample(record)


def _metrics(state: RunState) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return mean metrics of the greedy policy and of static, and the policy's rollouts."""
    config, starts = state.config, _starts(state.config)
    asked = held_out_budgets(config.grid)

    def greedy(_: int) -> PolicyScheduler:
        temperature = config.grpo.temperature  # for the entropy only
        budgets = asked * len(starts)
        return PolicyScheduler(state.policy, budgets, temperature=temperature, keep_steps=True)

    played = _play_texts(greedy, state)
    grouped = played["spends"].unflatten(1, (len(starts), -1)).mean((0, 1, 3))  # [3 budgets, axes]
    realised = [_budget(fractions, config.grid) for fractions in grouped.tolist()]

    def static(text: int) -> RowSchedules:
        """Mix levels on from window to window, so that the mean meets the budget."""
        firsts = [(text * len(starts) + start) * config.steps for start in range(len(starts))]
        pairs = [(budget, first) for first in firsts for budget in realised]
        return RowSchedules([StaticSchedule(b, config.grid, first_step=at) for b, at in pairs])

    beside = _play_texts(static, state)
    # Mean over the budgets: their losses at one token are dependent.
    by_budget = (beside["kl"] - played["kl"]).unflatten(1, (len(starts), -1))
    gains = by_budget.mean(2).flatten().tolist()
    interval = block_interval(gains)
    metrics = {
        **{name: float(played[name].mean()) for name in ("kl", "nll", "entropy")},
        "kl_static": float(beside["kl"].mean()),
        "kl_gain_low": interval.low,
        "kl_gain_high": interval.high,
        "scored_tokens": float(len(gains)),
        "nll_static": float(beside["nll"].mean()),
        "nll_dense": float(beside["dense_nll"].mean()),
        **dict(zip(GAPS, (grouped - budget_fractions(asked)).mean(0).tolist(), strict=True)),
    }
    return metrics, played


def _starts(config: TrainConfig) -> Sequence[int]:
    """Return the windows' starts in each held-out text, in tokens."""
    count = min(WINDOWS_PER_TEXT, config.windows)
    every = config.windows // count
    return config.starts[: count * every : every]


def _play_texts(
    scheduler_of: Callable[[int], BatchScheduler], state: RunState
) -> dict[str, Tensor]:
    """Return kl, nll [texts, R, T], dense_nll [texts, B, T], spends and entropy."""

    def play(number: int, text: TextPrefill) -> dict[str, Tensor]:
        scheduler = scheduler_of(number)
        rollout = text.rollout(_starts(state.config), len(FALLBACK_POINTS), scheduler)
        played = {name: getattr(rollout, name).cpu() for name in ("kl", "nll", "dense_nll")}
        spends = [[action.fractions() for action in actions] for actions in rollout.actions]
        played["spends"] = torch.tensor(spends).transpose(0, 1)  # [R, T, axes]
        if isinstance(scheduler, PolicyScheduler):
            played["entropy"] = scheduler.entropies()
        return played

    parts = [play(number, text) for number, text in enumerate(state.held_out)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _budget(fractions: Sequence[float], grid: ActionGrid) -> Budget:
    """Return fractions of dense as a budget, rounded: fp32 means miss a level slightly."""
    pairs = zip(_values(fractions), grid.levels(), strict=True)
    return Budget(*(min(max(value, some[0]), some[-1]) for value, some in pairs))


def _values(fractions: Sequence[float]) -> list[float]:
    """Convert fractions of dense to values of the axes."""
    return [axis.dense * fraction for axis, fraction in zip(AXES, fractions, strict=True)]
