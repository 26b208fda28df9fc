"""The passes of an evaluation at matched spend, each beside the dense model, and their tables.

Pass 1 measures what the first method spends at each budget; the others get exactly that, per axis
or in bytes. Rollouts compensate for deviations of earlier ones, so that the mean bytes are equal. A
pass runs over texts in batches; N counts rollouts: the windows of all texts, text after text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, starmap
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import AXES, DENSE, ActionGrid, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.budgets.row_schedules import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    PlannedRows,
    RowSchedules,
    Schedule,
    SplitScheduler,
)
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import BLOCK, read_prefixes
from sol_core.decoding.schedules import FixedSchedule, Horizon, RandomSchedule, StaticSchedule
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.rollout import Floats, RolloutScores, roll_out
from sol_core.models import FrozenLM

ROWS_AT_ONCE = 128  # a row costs a quarter less than with 64
MOST_PREFILLED = 65_536  # tokens per batch: 1.5 GB of the default model's cache
PREFILL_UNITS = 0.5  # work of a prefilled token relative to a decoded row's step
MOST_OWED = 0.1  # of dense; largest correction of a rollout's target
ScheduledRows = tuple[list[tuple[int, int]], BatchScheduler]  # (rollout, row) pairs


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
    def horizon(self) -> Horizon:
        return Horizon(self.contenders[0].episode_steps, self.config.steps)


def assemble(parts: Sequence[ScheduledRows], count: int, group: int) -> SplitScheduler:
    """Combine schedulers of all rows; row 0 of each rollout is dense."""
    dense_rows = [(rollout, -1) for rollout in range(count)]
    dense: ScheduledRows = dense_rows, PlannedRows([[DENSE]] * count)
    return SplitScheduler(
        [
            ([rollout * group + 1 + number for rollout, number in rows], scheduler)
            for rows, scheduler in (dense, *parts)
        ]
    )


def split_evenly(count: int, most: int) -> list[tuple[int, int]]:
    """Split ``count`` items into the fewest nearly equal ranges of at most ``most``."""
    pieces = max(1, -(-count // most))
    return [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


class TablePass:
    """Runs rows over the texts; holds means over the steps of N rollouts, nats per token.

    Subclasses provide the rows' schedulers.
    """

    name, title = "", ""
    part = ""  # position among the passes: "part 1 of 2"
    observes = False  # whether the rows observe the prefill

    def __init__(self, setting: Setting, rows: Sequence[Row]) -> None:
        config = setting.config
        self.setting = setting
        self.rows = list(rows)
        self.columns = {row: column for column, row in enumerate(rows)}
        shape = config.num_rollouts, len(rows)
        # Bytes and shares are 0 if not counted.
        self.nll, self.kl, self.share, self.num_bytes = np.zeros((4, *shape))
        self.spend = np.zeros((*shape, len(AXES)))
        self.dense_nll, self.dense_bytes = np.zeros((2, config.num_rollouts))
        self.done = 0  # number of leading rollouts done in all rows
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

    @torch.no_grad()
    def run(self, batch: Batch) -> None:
        setting, config, lm = self.setting, self.setting.config, self.setting.lm
        page_size, how = setting.grid.page_size, setting.grid.mechanisms
        observed = how if self.observes else None
        blocks = setting.texts[batch.first : batch.first + batch.count].tolist()
        windows = [(text, start) for text in blocks for start in self._starts]
        for offset in range(0, len(windows), self._rollouts_at_once):
            some = windows[offset : offset + self._rollouts_at_once]
            prefixes = [text[:start] for text, start in some]
            paths = [text[start : start + config.steps + 1] for text, start in some]
            read, state = read_prefixes(lm, prefixes, page_size, observed)
            first, count = batch.first * config.windows + offset, len(some)
            for start, stop in self._pieces:
                group = 1 + stop - start
                scheduler = assemble(self._parts(self.rows[start:stop], first, count), count, group)
                options = DecodeOptions(config.steps, how)
                cache = read.branch(group, config.steps)
                counted = self.costs if config.by_share else None
                scores = roll_out(lm, cache, paths, scheduler, options, state, counted)
                self._add(first, start, scores)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """Return a batch's numbers as views of the pass's arrays, which ``restore`` writes to."""
        by_share = self.setting.config.by_share
        counted = ("share", "num_bytes", "dense_bytes") if by_share else ()
        names = ("nll", "kl", "spend", "dense_nll", *counted)
        rollouts = self._rollouts(batch)
        return {name: getattr(self, name)[rollouts] for name in names}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Restore a batch; batches come in order, restored or run."""
        for name, view in self.saved(batch).items():
            view[...] = arrays[name]
        self.done = self._rollouts(batch).stop

    def random_columns(self, budget: int) -> list[int]:
        chosen = "random", budget
        return [at for row, at in self.columns.items() if (row.method, row.budget) == chosen]

    def _rollouts(self, batch: Batch) -> slice:
        windows = self.setting.config.windows
        return slice(batch.first * windows, (batch.first + batch.count) * windows)

    def _add(self, first: int, first_column: int, rollout: RolloutScores) -> None:
        """Store rollouts from ``first`` on; their rows without dense are consecutive columns."""
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


class BaselineSchedules:
    """Schedules of the baseline rows at mean spends per axis; static and random ones continue
    through all rollouts, so that their means are met.
    """

    def __init__(
        self, spends: Sequence[Budget], grid: ActionGrid, horizon: Horizon, *, seed: int
    ) -> None:
        self._spends, self._grid, self._horizon, self._seed = spends, grid, horizon, seed
        self._planners: dict[Row, RandomSchedule] = {}
        self._plans: dict[Row, list[FixedSchedule]] = {}  # random rows', by rollout

    def schedule(self, row: Row, rollout: int) -> Schedule:
        """Return a baseline row's schedule in one rollout."""
        spend, steps = self._spends[row.budget], self._horizon.total_steps
        if row.method == "static":  # mixes levels by step number
            return StaticSchedule(spend, self._grid, first_step=rollout * steps)
        if row.method != "random":
            config = ScheduleConfig(cast(ScheduleKind, row.method), spend)
            return build_schedule(config, self._grid, horizon=self._horizon)
        if row not in self._planners:
            seed = derive_seed(self._seed, "random", row.budget, row.index)
            planner = RandomSchedule(spend, self._grid, seed=seed, horizon=self._horizon)
            self._planners[row], self._plans[row] = planner, []
        planner, plans = self._planners[row], self._plans[row]
        while len(plans) <= rollout:
            plans.append(FixedSchedule([planner.next(step) for step in range(steps)]))
        return plans[rollout]


def derive_seed(*parts: object) -> int:
    """Derive a separate seed, below 2^63."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class ContenderPass(TablePass):
    """Runs methods that observe the steps, each at every budget."""

    observes = True

    def __init__(
        self,
        setting: Setting,
        sources: Mapping[str, Contender],  # by method
        budgets: Callable[[], Sequence[Budget]],
    ) -> None:
        self._sources, self._budgets = sources, budgets
        numbers = range(len(setting.config.budgets))
        super().__init__(setting, list(starmap(Row, product(sources, numbers))))

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[ScheduledRows]:
        budgets, parts = self._budgets(), []
        for method, contender in self._sources.items():
            mine = [number for number, row in enumerate(rows) if row.method == method]
            if slots := list(product(range(count), mine)):
                asked = [budgets[rows[number].budget] for _, number in slots]
                first_context = self.setting.config.first_context
                contexts = [first_context(first + at) - 1 for at, _ in slots]
                parts.append((slots, contender.make_scheduler(asked, contexts)))
        return parts


class PolicyPass(ContenderPass):
    """Pass 1: runs the first method at every requested budget."""

    name, title = "policy", "Running the policy"

    def __init__(self, setting: Setting) -> None:
        config, contender = setting.config, setting.contenders[0]
        super().__init__(setting, {"policy": contender}, lambda: config.budgets)

    def matched(self) -> list[Budget]:
        """Return the budgets for all others: mean shares of the bytes, or mean spends per axis."""
        matched = []
        for budget in range(len(self.setting.config.budgets)):
            column = self.columns[Row("policy", budget)]
            mean = Budget(*self.spend[:, column].mean(axis=0).tolist())
            if self.setting.config.by_share:
                share = min(float(self.share[:, column].mean()), 1.0)
                mean = Budget.share(share, mean.bit_width)
            matched.append(mean)
        return matched


class OtherMethodsPass(ContenderPass):
    """Runs the other methods at the first one's spend, after pass 1 on all texts."""

    name, title = "rivals", "Running the other methods at its spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        others = {f"policy:{other.name}": other for other in setting.contenders[1:]}
        super().__init__(setting, others, policies.matched)


class BaselinePass(TablePass):
    """Pass 2: runs the baselines at pass 1's spend, after pass 1 on all texts."""

    name, title = "baselines", "Running the baselines at the same spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        config = setting.config
        counts = {"static": 1, "random": config.num_random} | dict.fromkeys(config.signals, 1)
        rows = [
            Row(method, budget, index)
            for budget in range(len(config.budgets))
            for method, count in counts.items()
            for index in range(count)
        ]
        super().__init__(setting, rows)
        self._policies = policies

    @cached_property
    def _spends(self) -> list[Budget]:
        return self._policies.matched()

    @cached_property
    def _per_axis(self) -> BaselineSchedules:
        setting, spends = self.setting, self._spends
        return BaselineSchedules(spends, setting.grid, setting.horizon, seed=setting.config.seed)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[ScheduledRows]:
        slots = list(product(range(count), range(len(rows))))
        if (mixes := self.setting.mixes) is None:
            made = [self._per_axis.schedule(rows[row], first + at) for at, row in slots]
        else:
            aims = [self._aim(row, first, count) for row in rows]
            made = [self._at_share(rows[row], aims[row], first + at, mixes) for at, row in slots]
        return [(slots, RowSchedules(made))]

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Return the share for the next ``count`` rollouts, corrected by the previous ones."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        owed = float((share - self.share[:first, self.columns[row]]).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _at_share(self, row: Row, aim: float, rollout: int, mixes: MixTable) -> Schedule:
        setting, bits = self.setting, self._spends[row.budget].bit_width
        context = setting.config.first_context(rollout)
        share = min(max(aim, mixes.lowest_share(context)), 1.0)
        is_static = row.method == "static"
        budget = Budget.share(share, bits) if is_static else mixes.mean(share, context, bits)
        seed = derive_seed(setting.config.seed, "random", row.budget, row.index, rollout)
        config = ScheduleConfig(cast(ScheduleKind, row.method), budget, seed)
        return build_schedule(config, setting.grid, horizon=setting.horizon, mixes=mixes)
