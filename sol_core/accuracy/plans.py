"""Levels of static schedules for the steps of a task: the same for every choice of a question.

Were the mixing of two levels to run on from choice to choice, their order by likelihood would say
as much about the levels as about the choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sol_core.accuracy.questions import Continuation
from sol_core.actions import AXES, Action, ActionGrid, Budget
from sol_core.budgets.mixes import Mix, MixTable
from sol_core.decoding.cost import CostModel
from sol_core.decoding.schedules import StaticSchedule
from sol_core.evaluation.methods import PAPER_CHANNEL_LEVELS
from sol_core.models import FrozenLM

CANDIDATES = 16  # starts that are tried for each question
SAMPLES = 32  # lengths that a mean over all steps is read off


class StaticPlan:
    """One run of the mixing, of which every question takes a stretch."""

    def __init__(self, spend: Budget, grid: ActionGrid, lengths: Sequence[Sequence[int]]) -> None:
        longest = [max(steps) for steps in lengths]
        ends = list(itertools.accumulate(longest))
        scheduler = StaticSchedule(spend, grid)
        self._actions = [scheduler.at(step) for step in range(ends[-1] + CANDIDATES)]
        spread = np.asarray([levels[-1] - levels[0] for levels in grid.levels()])
        spends = np.asarray([action.as_tuple() for action in self._actions])
        # How far above the mean, in parts of the axis, the steps up to each one are.
        surplus = np.cumsum((spends - spend.as_tuple()) / spread, axis=0)
        surplus = np.concatenate((np.zeros((1, len(AXES))), surplus))
        self._starts = []
        carried = np.zeros(len(AXES))
        for end, most, steps in zip(ends, longest, lengths, strict=True):
            starts = end - most + np.arange(CANDIDATES)
            after = carried + sum(surplus[starts + count] - surplus[starts] for count in steps)
            best = int(np.abs(after).max(-1).argmin())
            carried = after[best]
            self._starts.append(int(starts[best]))

    def actions(self, question: int, steps: int) -> list[Action]:
        """Actions of a choice's first ``steps`` steps; padded with the last one."""
        start = self._starts[question]
        planned = self._actions[start : start + steps]
        return planned + planned[-1:] * (steps - len(planned))


class SharePlan:
    """Turns between two neighbouring mixes at every step, by what all choices read."""

    def __init__(
        self,
        budget: Budget,
        grid: ActionGrid,
        mixes: MixTable,
        contexts: Sequence[int],
        lengths: Sequence[Sequence[int]],
    ) -> None:
        assert budget.bytes_share is not None
        self._share, self._mixes, self._contexts = budget.bytes_share, mixes, contexts
        self._lengths = lengths
        self._bits = StaticSchedule(Budget(bit_width=budget.bit_width), grid)
        self._begins: list[tuple[float, int]] = []  # read beyond the share, and steps, before each
        excess, steps = 0.0, 0
        for question, of_choices in enumerate(lengths):
            self._begins.append((excess, steps))
            for mix, running in self._mixes_of(question, max(of_choices)):
                excess += running * (mix.share - self._share)
            steps += max(of_choices)

    def actions(self, question: int, steps: int) -> list[Action]:
        """Actions of the first ``steps`` steps of each of a question's choices."""
        begin = self._begins[question][1]
        return [
            Action(
                mix.action.keep_fraction,
                mix.action.channel_keep_ratio,
                self._bits.at(begin + step).bit_width,
            )
            for step, (mix, _) in enumerate(self._mixes_of(question, steps))
        ]

    def _mixes_of(self, question: int, steps: int) -> list[tuple[Mix, int]]:
        """The mix of each step, and how many choices it is a step of."""
        excess, mixes = self._begins[question][0], []
        for step in range(steps):
            running = sum(length > step for length in self._lengths[question])
            pair = self._mixes.neighbours(self._share, self._contexts[question] + step + 1)
            weight = max(running, 1)
            low, high = (abs(excess + weight * (mix.share - self._share)) for mix in pair)
            mix = pair[1] if high <= low else pair[0]
            excess += weight * (mix.share - self._share)
            mixes.append((mix, running))
        return mixes


class PaperReading:
    """Mean computed bytes of the steps of some continuations under the paper's mechanisms."""

    def __init__(
        self, lm: FrozenLM, grid: ActionGrid, continuations: Sequence[Continuation]
    ) -> None:
        self._grid, self._costs = grid, CostModel.of(lm, grid)
        self._cached = [  # tokens that each step attends over
            len(item.context) + step for item in continuations for step in range(len(item.tokens))
        ]
        self._sampled = np.quantile(self._cached, np.linspace(0, 1, SAMPLES)).astype(int).tolist()

    def of(self, budget: Budget) -> float:
        """Estimate at sampled lengths from what the action allows."""
        return float(
            np.mean([self._costs.decode_step(budget, count).bytes_read for count in self._sampled])
        )

    def budget(self, spend: Budget, target: float) -> Budget:
        """The spend with channels so that ``target`` bytes are read; the nearest there is."""
        lowest, highest = PAPER_CHANNEL_LEVELS[0], PAPER_CHANNEL_LEVELS[-1]
        # Bytes are linear in the ratio, but for the rounding of channels.
        least, most = (
            self._mixed(replace(spend, channel_keep_ratio=ratio)) for ratio in (lowest, highest)
        )
        ratio = lowest + (target - least) / (most - least) * (highest - lowest)
        return replace(spend, channel_keep_ratio=min(max(ratio, lowest), highest))

    def _mixed(self, spend: Budget) -> float:
        """Mean over all steps; attention's levels are mixed evenly, as static does."""
        levels = np.asarray(self._grid.keep_fractions)
        above = int(np.clip(np.searchsorted(levels, spend.keep_fraction), 1, len(levels) - 1))
        low, high = levels[above - 1], levels[above]
        share = (spend.keep_fraction - low) / (high - low)
        at_low, at_high = (
            np.mean([self._costs.decode_step(at, count).bytes_read for count in self._cached])
            for at in (replace(spend, keep_fraction=level) for level in (low, high))
        )
        return float((1 - share) * at_low + share * at_high)
