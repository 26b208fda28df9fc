"""Static's mixes for the steps of a task, where budgets are shares of the dense bytes.

As in ``static_plan``, all choices of a question get the same steps. A mix is chosen at each
question's own context length, and so that the mean over all steps so far stays the share.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.budgets import Mix, MixTable
from sol_core.decoding.schedules import Observation, StaticScheduler


class SharePlan:
    """Turns between two neighbouring mixes at every step, by what all choices read.

    Args:
        budget: with a share, the mean to meet over all steps of all choices.
        mixes: of the model under the grid.
        contexts: per question, tokens before its first step.
        lengths: per question, the steps of each of its choices.
    """

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
        self._bits = StaticScheduler(Budget(bit_width=budget.bit_width), grid)
        self._begins: list[tuple[float, int]] = []  # read beyond the share, and steps, before each
        excess, steps = 0.0, 0
        for question, of_choices in enumerate(lengths):
            self._begins.append((excess, steps))
            for mix, running in self._mixes_of(question, max(of_choices)):
                excess += running * (mix.share - self._share)
            steps += max(of_choices)

    def actions(self, question: int, steps: int) -> list[Action]:
        """Of the first ``steps`` steps of each of a question's choices; those beyond the longest
        go on with the mixing and are not made good."""
        begin = self._begins[question][1]
        return [
            Action(
                mix.action.keep_fraction,
                mix.action.channel_keep_ratio,
                self._bits.next_action(Observation(begin + step)).bit_width,
            )
            for step, (mix, _) in enumerate(self._mixes_of(question, steps))
        ]

    def _mixes_of(self, question: int, steps: int) -> list[tuple[Mix, int]]:
        """Of each step its mix, and how many choices it is a step of."""
        excess, found = self._begins[question][0], []
        for step in range(steps):
            running = sum(length > step for length in self._lengths[question])
            pair = self._mixes.neighbours(self._share, self._contexts[question] + step + 1)
            weight = max(running, 1)
            low, high = (abs(excess + weight * (mix.share - self._share)) for mix in pair)
            mix = pair[1] if high <= low else pair[0]
            excess += weight * (mix.share - self._share)
            found.append((mix, running))
        return found
