"""Stages of an evaluation, the table that they fill, and what they share.

A stage goes over texts in batches; N counts rollouts: the windows of all texts, text after text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sol_core.actions import AXES, DENSE, ActionGrid
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.batch_scheduling import PlannedRows, SplitScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import BLOCK
from sol_core.decoding.schedules import Horizon
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.methods import Part, Row, paper_grid
from sol_core.evaluation.rollout import Floats, Rollout, read_windows, roll_out
from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class Setting:
    """Objects shared by all stages."""

    lm: FrozenLM
    contenders: Sequence[Contender]
    config: EvaluationConfig
    texts: Tensor  # [N, ``config.block_len``] int64, on the model's device
    mixes: MixTable | None = None  # where budgets are shares of the bytes
    paper: bool = False  # steps skip work by the paper's mechanisms

    @property
    def grid(self) -> ActionGrid:
        grid = self.contenders[0].grid  # of all
        return paper_grid(grid) if self.paper else grid

    @property
    def horizon(self) -> Horizon:
        return Horizon(self.contenders[0].episode_steps, self.config.steps)


class ScoreTable:
    """Means over a rollout's steps, for each of N rollouts and every row; nats per token."""

    def __init__(self, rows: Sequence[Row], count: int) -> None:
        self.rows = list(rows)
        self.columns = {row: column for column, row in enumerate(self.rows)}
        self.nll, self.kl, self.share, self.num_bytes = np.zeros((4, count, len(self.rows)))
        self.spend = np.zeros((count, len(self.rows), len(AXES)))
        # Bytes, and shares of the dense step's, are 0 where they are not counted.
        self.dense_nll, self.dense_bytes = np.zeros((2, count))
        self.done = 0  # rollouts filled in so far, counted from the first, for every row

    def add(self, first: int, first_column: int, rollout: Rollout, read: Floats | None) -> None:
        """Rows, dense aside, are consecutive columns; read: bytes of steps, [B, G, T], if any."""
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        columns = slice(first_column, first_column + group - 1)
        self.nll[rollouts, columns] = rollout.nll[:, 1:].mean(-1)
        self.kl[rollouts, columns] = rollout.kl[:, 1:].mean(-1)
        self.spend[rollouts, columns] = rollout.spend[:, 1:].mean(2)
        self.dense_nll[rollouts] = rollout.nll[:, 0].mean(-1)
        if read is not None:
            self.share[rollouts, columns] = (read[:, 1:] / read[:, :1]).mean(-1)
            self.num_bytes[rollouts, columns] = read[:, 1:].mean(-1)
            self.dense_bytes[rollouts] = read[:, 0].mean(-1)
        if first_column + group - 1 == len(self.rows):
            self.done = first + count

    def column(self, method: str, budget: int) -> int:
        return self.columns[Row(method, budget)]

    def random_columns(self, budget: int) -> list[int]:
        return [
            column
            for row, column in self.columns.items()
            if row.method == "random" and row.budget == budget
        ]


class TokenTable:
    """Every scored token of the first policy's rows and of the dense one."""

    def __init__(self, num_budgets: int, count: int, num_steps: int) -> None:
        self.surprisal, self.entropy = np.zeros((2, count, num_steps))  # nats, dense
        self.spend = np.zeros((num_budgets, count, num_steps, len(AXES)))
        # KL in nats; share of the dense step's bytes, 0 where not counted.
        self.kl, self.share = np.zeros((2, num_budgets, count, num_steps))

    def add(self, first: int, first_column: int, rollout: Rollout, read: Floats | None) -> None:
        """Fill in a rollout; columns 0 to ``budgets`` − 1 are the first policy's."""
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        self.surprisal[rollouts] = rollout.nll[:, 0]
        self.entropy[rollouts] = rollout.dense_entropy
        for column in range(first_column, min(first_column + group - 1, len(self.spend))):
            row = 1 + column - first_column
            self.spend[column, rollouts] = rollout.spend[:, row]
            self.kl[column, rollouts] = rollout.kl[:, row]
            if read is not None:
                self.share[column, rollouts] = read[:, row] / read[:, 0]


PROBE_TEXTS = 64  # texts of a probe, at most
ROWS_AT_ONCE = 128  # a row costs a quarter less than with 64
MOST_PREFILLED = 65_536  # tokens of the texts of a batch: 1.5 GB of the default model's cache
PREFILL_UNITS = 0.5  # work of a prefilled token beside that of a decoded row's step


class TextStage:
    """A stage that goes over the first ``num_texts`` texts; subclasses say what it runs."""

    name, title = "", ""
    texts_at_once: int  # of a batch
    units_per_text: float  # work, in steps of one row

    def __init__(self, setting: Setting, num_texts: int) -> None:
        self.setting, self.num_texts = setting, num_texts

    @property
    def batches(self) -> list[Batch]:
        ranges, size = [], self.texts_at_once
        for first in range(0, self.num_texts, size):
            count = min(size, self.num_texts - first)
            ranges.append(Batch(first, count, count * self.units_per_text))
        return ranges

    def message(self, batch: Batch) -> str:
        return f"{self.title}: text {batch.first + batch.count} of {self.num_texts}"

    def run(self, batch: Batch) -> None:
        blocks = self.setting.texts[batch.first : batch.first + batch.count]
        self.run_texts(batch.first, blocks)

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        """Blocks: [B, ``config.block_len``] int64."""
        raise NotImplementedError

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        """Return the numbers of some texts, as views into the stage's own arrays."""
        raise NotImplementedError

    def saved(self, batch: Batch) -> dict[str, Floats]:
        return self.part(batch.first, batch.count)

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run; batches come in order, restored or run."""
        for name, view in self.part(batch.first, batch.count).items():
            view[...] = arrays[name]


def assemble(parts: Sequence[Part], count: int, group: int) -> SplitScheduler:
    """One scheduler of all rows; row 0 of each rollout is dense."""
    dense: Part = [(rollout, -1) for rollout in range(count)], PlannedRows([[DENSE]] * count)
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


class TablePass(TextStage):
    """Runs a table's rows over the texts."""

    observes = False  # whether the rows look at the prefill's signals

    def __init__(self, setting: Setting, rows: Sequence[Row]) -> None:
        super().__init__(setting, setting.config.texts)
        self.table = ScoreTable(rows, setting.config.num_rollouts)
        self.costs = CostModel.of(setting.lm, setting.grid)
        self._pieces = split_evenly(len(rows), ROWS_AT_ONCE - 1)
        config = setting.config
        largest_group = 1 + max(stop - start for start, stop in self._pieces)
        starts = [config.context + number * config.steps for number in range(config.windows)]
        most = min(ROWS_AT_ONCE // largest_group, MOST_PREFILLED // starts[-1])
        self._starts, self._rollouts_at_once = starts, max(1, most)
        fitting = ROWS_AT_ONCE // (largest_group * config.windows)
        self.texts_at_once = max(1, min(fitting, MOST_PREFILLED // config.block_len))
        fed = config.windows * config.steps
        prefilled = config.context + sum((start - 1) % BLOCK + 1 for start in starts[1:])
        self.units_per_text = (len(rows) + len(self._pieces)) * fed + PREFILL_UNITS * prefilled

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        setting, config = self.setting, self.setting.config
        windows = [(text, start) for text in blocks.tolist() for start in self._starts]
        for offset in range(0, len(windows), self._rollouts_at_once):
            some = windows[offset : offset + self._rollouts_at_once]
            prefix = read_windows(
                setting.lm, some, config.steps, setting.grid, observe=self.observes
            )
            first, count = first_text * config.windows + offset, len(some)
            for start, stop in self._pieces:
                group = 1 + stop - start
                parts = self._parts(self.table.rows[start:stop], first, count)
                options = DecodeOptions(
                    config.steps, setting.grid.mechanisms, rows_per_sequence=group
                )
                scheduler = assemble(parts, count, group)
                rollout = roll_out(setting.lm, prefix, scheduler, options)
                read = None
                if config.by_share:
                    read = rollout.bytes_read(self.costs)
                self._add(first, start, rollout, read)

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        by_share = self.setting.config.by_share
        counted = ("share", "num_bytes", "dense_bytes") if by_share else ()
        names = ("nll", "kl", "spend", "dense_nll", *counted)
        rollouts = self._rollouts(first_text, count)
        return {name: getattr(self.table, name)[rollouts] for name in names}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        self.table.done = self._rollouts(batch.first, batch.count).stop

    def _rollouts(self, first_text: int, count: int) -> slice:
        windows = self.setting.config.windows
        return slice(first_text * windows, (first_text + count) * windows)

    def _add(self, first: int, column: int, rollout: Rollout, read: Floats | None) -> None:
        """Keep the scores of rollouts ``first`` …, of rows from ``column`` on, and their bytes."""
        self.table.add(first, column, rollout, read)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        raise NotImplementedError
