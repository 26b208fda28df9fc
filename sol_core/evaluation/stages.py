"""Passes of an evaluation, the tables that they fill, and what they share.

A pass goes over texts in batches; N counts rollouts: the windows of all texts, text after text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sol_core.actions import AXES, DENSE, ActionGrid
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows, SplitScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import BLOCK
from sol_core.decoding.schedules import Horizon
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.rollout import Floats, RolloutScores, read_windows, roll_out
from sol_core.models import FrozenLM

ScheduledRows = tuple[list[tuple[int, int]], BatchScheduler]  # rows and their scheduler


@dataclass(frozen=True, slots=True)
class Row:
    """A method at a budget, decoded as one row of each rollout."""

    method: str  # policy, policy:NAME, static, random, emc or dac
    budget: int  # index of the requested budget
    index: int = 0  # which of the random schedules


@dataclass(frozen=True, slots=True)
class Setting:
    """Objects shared by all passes."""

    lm: FrozenLM
    contenders: Sequence[Contender]
    config: EvaluationConfig
    texts: Tensor  # [N, ``config.block_len``] int64, on the model's device
    mixes: MixTable | None  # where budgets are shares of the bytes
    grid: ActionGrid

    @property
    def num_budgets(self) -> int:
        return len(self.config.budgets)

    @property
    def horizon(self) -> Horizon:
        return Horizon(self.contenders[0].episode_steps, self.config.steps)


ROWS_AT_ONCE = 128  # a row costs a quarter less than with 64
MOST_PREFILLED = 65_536  # tokens of the texts of a batch: 1.5 GB of the default model's cache
PREFILL_UNITS = 0.5  # work of a prefilled token beside that of a decoded row's step


def assemble(parts: Sequence[ScheduledRows], count: int, group: int) -> SplitScheduler:
    """Make one scheduler of all rows; row 0 of each rollout is dense."""
    dense_rows = [(rollout, -1) for rollout in range(count)]
    dense: ScheduledRows = dense_rows, PlannedRows([[DENSE]] * count)
    return SplitScheduler(
        [
            ([rollout * group + 1 + number for rollout, number in rows], scheduler)
            for rows, scheduler in (dense, *parts)
        ]
    )


def split_evenly(count: int, most: int) -> list[tuple[int, int]]:
    """Cut ``count`` things into the fewest ranges of at most ``most``, about equal."""
    pieces = max(1, -(-count // most))
    return [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


class TablePass:
    """Runs rows over the texts; means over the steps of N rollouts, nats per token.

    Subclasses say what schedules the rows.
    """

    name, title = "", ""
    part = ""  # "part 1 of 2": its number among the passes
    observes = False  # whether the rows look at the prefill's signals

    def __init__(self, setting: Setting, rows: Sequence[Row]) -> None:
        config = setting.config
        self.setting = setting
        self.rows = list(rows)
        self.columns = {row: column for column, row in enumerate(rows)}
        shape = config.num_rollouts, len(rows)
        # Bytes, and shares of the dense step's, are 0 where they are not counted.
        self.nll, self.kl, self.share, self.num_bytes = np.zeros((4, *shape))
        self.spend = np.zeros((*shape, len(AXES)))
        self.dense_nll, self.dense_bytes = np.zeros((2, config.num_rollouts))
        self.done = 0  # rollouts filled in so far, counted from the first, for every row
        self.costs = CostModel.of(setting.lm, setting.grid)
        self._pieces = split_evenly(len(rows), ROWS_AT_ONCE - 1)
        largest_group = 1 + max(stop - start for start, stop in self._pieces)
        starts = [config.context + number * config.steps for number in range(config.windows)]
        most = min(ROWS_AT_ONCE // largest_group, MOST_PREFILLED // starts[-1])
        self._starts, self._rollouts_at_once = starts, max(1, most)
        fitting = ROWS_AT_ONCE // (largest_group * config.windows)
        self.texts_at_once = max(1, min(fitting, MOST_PREFILLED // config.block_len))
        fed = config.windows * config.steps
        prefilled = config.context + sum((start - 1) % BLOCK + 1 for start in starts[1:])
        self.units_per_text = (len(rows) + len(self._pieces)) * fed + PREFILL_UNITS * prefilled

    @property
    def batches(self) -> list[Batch]:
        batches, num_texts = [], self.setting.config.texts
        for first in range(0, num_texts, self.texts_at_once):
            count = min(self.texts_at_once, num_texts - first)
            batches.append(Batch(first, count, count * self.units_per_text))
        return batches

    def message(self, batch: Batch) -> str:
        done = f"text {batch.first + batch.count} of {self.setting.config.texts}"
        return f"{self.title}, {self.part}: {done}"

    def run(self, batch: Batch) -> None:
        setting, config = self.setting, self.setting.config
        blocks = setting.texts[batch.first : batch.first + batch.count].tolist()
        windows = [(text, start) for text in blocks for start in self._starts]
        for offset in range(0, len(windows), self._rollouts_at_once):
            some = windows[offset : offset + self._rollouts_at_once]
            prefix = read_windows(
                setting.lm, some, config.steps, setting.grid, observe=self.observes
            )
            first, count = batch.first * config.windows + offset, len(some)
            for start, stop in self._pieces:
                group, how = 1 + stop - start, setting.grid.mechanisms
                scheduler = assemble(self._parts(self.rows[start:stop], first, count), count, group)
                options = DecodeOptions(config.steps, how)
                cache = prefix.cache.branch(group, config.steps)
                counted = self.costs if config.by_share else None
                scores = roll_out(setting.lm, cache, prefix, scheduler, options, counted)
                self._add(first, start, scores)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """Return the numbers of a batch's texts, as views into the pass's own arrays."""
        by_share = self.setting.config.by_share
        counted = ("share", "num_bytes", "dense_bytes") if by_share else ()
        names = ("nll", "kl", "spend", "dense_nll", *counted)
        rollouts = self._rollouts(batch)
        return {name: getattr(self, name)[rollouts] for name in names}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run; batches come in order, restored or run."""
        for name, view in self.saved(batch).items():
            view[...] = arrays[name]
        self.done = self._rollouts(batch).stop

    def column(self, method: str, budget: int) -> int:
        return self.columns[Row(method, budget)]

    def random_columns(self, budget: int) -> list[int]:
        chosen = "random", budget
        return [at for row, at in self.columns.items() if (row.method, row.budget) == chosen]

    def _rollouts(self, batch: Batch) -> slice:
        windows = self.setting.config.windows
        return slice(batch.first * windows, (batch.first + batch.count) * windows)

    def _add(self, first: int, first_column: int, rollout: RolloutScores) -> None:
        """Fill in rollouts ``first`` …, whose rows, dense aside, are consecutive columns."""
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        columns = slice(first_column, first_column + group - 1)
        self.nll[rollouts, columns] = rollout.nll[:, 1:].mean(-1)
        self.kl[rollouts, columns] = rollout.kl[:, 1:].mean(-1)
        self.spend[rollouts, columns] = rollout.spend[:, 1:].mean(2)
        self.dense_nll[rollouts] = rollout.nll[:, 0].mean(-1)
        if (read := rollout.num_bytes) is not None:
            self.share[rollouts, columns] = (read[:, 1:] / read[:, :1]).mean(-1)
            self.num_bytes[rollouts, columns] = read[:, 1:].mean(-1)
            self.dense_bytes[rollouts] = read[:, 0].mean(-1)
        if columns.stop == len(self.rows):
            self.done = first + count

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[ScheduledRows]:
        raise NotImplementedError
