"""The passes of an evaluation at matched spend, each beside the dense model.

Pass 1 finds what the first method really spends at every budget; the others get exactly that, per
axis or in bytes. Rollouts compensate for bytes that earlier ones read too much or too little, so
that the means are equal. Static and random schedules are planned, and run on through all rollouts;
EMC and DAC keep steering and statistics, one scheduler per slot of the batch. Pass 3 is static
under the paper's mechanisms at static's bytes: a point of the path ``attention_first``, attention
down to a tenth first, then channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import product, starmap
from typing import cast

import numpy as np
from torch import Tensor

from sol_core.actions import AXES, PAPER, Action, ActionGrid, Budget
from sol_core.budgets.building import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import RowSchedules, Schedule, StepObservation
from sol_core.decoding.schedules import (
    FixedSchedule,
    Horizon,
    RandomSchedule,
    SignalSchedule,
    StaticSchedule,
)
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.rollout import Floats, Rollout
from sol_core.evaluation.stages import Part, Row, Setting, TablePass

Corners = tuple[tuple[float, float], ...]  # (keep fraction, channel keep ratio), from dense down
BISECTIONS = 40
TRIALS = 2  # of the paper's static on one batch
# The paper's mechanisms cut only the MLP's input: equal bytes take ratios below other grids'.
PAPER_CHANNEL_LEVELS = tuple(round(i / 20, 2) for i in range(1, 21))
MOST_OWED = 0.1  # of dense, that a rollout's aim is moved to make good what was read before


def read_beyond(count: int, trial: Callable[[Floats], tuple[Floats, Floats]]) -> Floats:
    """Shares that the paper's heads, which choose alone, read beyond their actions: [count]."""
    beyond: Floats = np.zeros(count)
    for _ in range(TRIALS):
        read, allowed = trial(beyond)
        beyond = read - allowed
    return beyond


def paper_grid(grid: ActionGrid) -> ActionGrid:
    """Another grid's levels of attention and bits, with the paper's mechanisms."""
    mechanisms = asdict(PAPER) | {"quant_site": grid.quant_site}
    return replace(grid, channel_keep_ratios=PAPER_CHANNEL_LEVELS, **mechanisms)


def attention_first(grid: ActionGrid) -> Corners:
    """The paper's axes one after the other, none below the grid's lowest level."""
    keep, ratio = max(0.1, grid.keep_fractions[0]), grid.channel_keep_ratios[0]
    return (1.0, 1.0), (keep, 1.0), (keep, ratio)


def budget_on_path(
    corners: Corners, bits: float, target: float, reading: Callable[[Budget], float]
) -> Budget:
    """The budget on a path that reads as much as wanted; an end of the path where none does."""
    low, high = 0.0, float(len(corners) - 1)  # target lies between their readings
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if reading(_at(corners, middle, bits)) > target else (low, middle)
        )
    return _at(corners, high, bits)


def _at(corners: Corners, point: float, bits: float) -> Budget:
    axes = zip(*corners, strict=True)
    keep, ratio = (float(np.interp(point, range(len(corners)), levels)) for levels in axes)
    return Budget(keep, ratio, bits)


def baseline_rows(num_budgets: int, num_random: int, signals: Sequence[str]) -> list[Row]:
    """Every baseline row of a rollout, dense aside, budget after budget."""
    counts = {"static": 1, "random": num_random} | dict.fromkeys(signals, 1)
    return [
        Row(method, budget, index)
        for budget in range(num_budgets)
        for method, count in counts.items()
        for index in range(count)
    ]


def row_by_row(
    rows: Sequence[Row], count: int, scheduler: Callable[[Row, int], Schedule]
) -> list[Part]:
    """Make a scheduler for each row in each slot of a batch, which takes a rollout."""
    slots = list(product(range(count), range(len(rows))))
    return [(slots, RowSchedules([scheduler(rows[number], slot) for slot, number in slots]))]


class BaselineRows:
    """The schedulers behind baseline rows; they live as long as the evaluation."""

    def __init__(
        self, spends: Sequence[Budget], grid: ActionGrid, horizon: Horizon, *, seed: int
    ) -> None:
        self._spends, self._grid, self._horizon, self._seed = spends, grid, horizon, seed
        self._planners: dict[Row, RandomSchedule] = {}
        self._signals: dict[tuple[Row, int], SignalSchedule] = {}  # by row and slot

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """Schedulers for rollouts ``first`` …; call in the order of the texts."""
        return row_by_row(rows, count, lambda row, slot: self._scheduler(row, first, slot))

    def steering(self) -> Floats:
        """[schedules, numbers] fp64: where the signal-driven schedules stand."""
        states = [scheduler.state() for scheduler in self._signals.values()]
        size = SignalSchedule.state_size()
        return np.asarray(states, dtype=np.float64).reshape(len(states), size)

    def steer(self, states: Floats) -> None:
        """Put them back to where ``steering`` found them, after the same calls of ``parts``."""
        for scheduler, state in zip(self._signals.values(), states.tolist(), strict=True):
            scheduler.go_on_from(state)

    def _scheduler(self, row: Row, first: int, slot: int) -> Schedule:
        steps = self._horizon.total_steps
        if row.method == "static":  # mixes levels by the number of the step
            first_step = (first + slot) * steps
            return StaticSchedule(self._spends[row.budget], self._grid, first_step=first_step)
        if row.method == "random":  # plans every rollout alone
            if row not in self._planners:
                self._planners[row] = cast(RandomSchedule, self._build(row))
            return FixedSchedule([self._planners[row].next(step) for step in range(steps)])
        if (row, slot) not in self._signals:
            self._signals[row, slot] = cast(SignalSchedule, self._build(row))
        return restarted(self._signals[row, slot])

    def _build(self, row: Row) -> Schedule:
        seed = derive_seed(self._seed, "random", row.budget, row.index)
        config = ScheduleConfig(cast(ScheduleKind, row.method), self._spends[row.budget], seed)
        return build_schedule(config, self._grid, horizon=self._horizon)


def restarted(scheduler: SignalSchedule) -> Schedule:
    """Make a schedule that goes on with another rollout at step 0."""

    def act(observation: StepObservation) -> Action:
        if observation.step == 0:
            # The hidden state before belongs to another rollout: no drift can be read from it.
            observation = StepObservation.unseen(0, observation.cached_tokens[0])
        return scheduler(observation)

    return act


def derive_seed(*parts: object) -> int:
    """A seed of its own for everything random, below 2^63."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class ShareRows(BaselineRows):
    """Rows that aim at shares."""

    def __init__(self, table: TablePass, spends: Sequence[Budget]) -> None:
        setting = table.setting
        super().__init__(spends, setting.grid, setting.horizon, seed=setting.config.seed)
        assert setting.mixes is not None
        self._setting, self._table, self._mixes = setting, table, setting.mixes

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """Schedulers as of ``BaselineRows``; all rollouts before the first are in the table."""
        aims = {row: self._aim(row, first, count) for row in rows}
        return row_by_row(
            rows, count, lambda row, slot: self._at_share(row, aims[row], first + slot, slot)
        )

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Share for the next ``count`` rollouts."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        before = self._table.share[:first, self._table.columns[row]]
        owed = float((share - before).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _at_share(self, row: Row, aim: float, rollout: int, slot: int) -> Schedule:
        setting, bits = self._setting, self._spends[row.budget].bit_width
        context = setting.config.first_context(rollout)
        share = min(max(aim, self._mixes.lowest(context)), 1.0)
        mean = self._mixes.mean(share, context, bits)
        if row.method == "static":
            mean = Budget.share(share, bits)
        seed = derive_seed(self._seed, "random", row.budget, row.index, rollout)
        config = ScheduleConfig(cast(ScheduleKind, row.method), mean, seed)
        made = build_schedule(config, setting.grid, horizon=self._horizon, mixes=self._mixes)
        if not isinstance(made, SignalSchedule):
            return made
        # A signal-driven schedule goes on at another budget, with the statistics of the one before.
        if (row, slot) in self._signals:
            made.go_on_from(self._signals[row, slot].state())
        self._signals[row, slot] = made
        return restarted(made)


class ContenderPass(TablePass):
    """Methods that observe the steps, each at every budget."""

    observes = True

    def __init__(
        self,
        setting: Setting,
        sources: Mapping[str, Contender],  # by row
        budgets: Callable[[], Sequence[Budget]],
    ) -> None:
        self._sources, self._budgets = sources, budgets
        super().__init__(setting, list(starmap(Row, product(sources, range(setting.num_budgets)))))

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        budgets, parts = self._budgets(), []
        for method, contender in self._sources.items():
            mine = [number for number, row in enumerate(rows) if row.method == method]
            if slots := list(product(range(count), mine)):
                asked = [budgets[rows[number].budget] for _, number in slots]
                parts.append((slots, contender.scheduler(asked)))
        return parts


class PolicyPass(ContenderPass):
    """Pass 1: the first method at every requested budget."""

    name, title = "policy", "Running the policy"

    def __init__(self, setting: Setting) -> None:
        config, contender = setting.config, setting.contenders[0]
        super().__init__(setting, {"policy": contender}, lambda: config.budgets)
        # Of every scored token: nats, dense; then the policy's at each budget.
        shape = config.num_rollouts, config.steps
        self.token_surprisal, self.token_entropy = np.zeros((2, *shape))
        self.token_spend = np.zeros((setting.num_budgets, *shape, len(AXES)))
        # KL in nats; share of the dense step's bytes, 0 where not counted.
        self.token_kl, self.token_share = np.zeros((2, setting.num_budgets, *shape))

    def _add(self, first: int, first_column: int, rollout: Rollout) -> None:
        super()._add(first, first_column, rollout)
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        self.token_surprisal[rollouts] = rollout.nll[:, 0]
        self.token_entropy[rollouts] = rollout.dense_entropy
        # Columns 0 to ``num_budgets`` − 1 are the policy's.
        for column in range(first_column, min(first_column + group - 1, len(self.token_spend))):
            row = 1 + column - first_column
            self.token_spend[column, rollouts] = rollout.spend[:, row]
            self.token_kl[column, rollouts] = rollout.kl[:, row]
            if (read := rollout.num_bytes) is not None:
                self.token_share[column, rollouts] = read[:, row] / read[:, 0]

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        rollouts = self._rollouts(first_text, count)
        by_budget = ["token_spend", "token_kl", *["token_share"] * self.setting.config.by_share]
        return (
            super().part(first_text, count)
            | {name: getattr(self, name)[rollouts] for name in ("token_surprisal", "token_entropy")}
            | {name: getattr(self, name)[:, rollouts] for name in by_budget}
        )

    def matched(self) -> list[Budget]:
        """Budgets asked of all others: mean shares of the bytes, or mean spends per axis."""
        matched = []
        for budget in range(self.setting.num_budgets):
            column = self.column("policy", budget)
            mean = Budget(*self.spend[:, column].mean(axis=0).tolist())
            if self.setting.config.by_share:
                share = min(float(self.share[:, column].mean()), 1.0)
                mean = Budget.share(share, mean.bit_width)
            matched.append(mean)
        return matched


class OtherMethodsPass(ContenderPass):
    """The other methods at what the first one spent; pass 1 must have run over all texts."""

    name, title = "rivals", "Running the other methods at its spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        others = {f"policy:{other.name}": other for other in setting.contenders[1:]}
        super().__init__(setting, others, policies.matched)


class BaselinePass(TablePass):
    """Pass 2: the baselines at what pass 1 spent; it must have run over all texts."""

    name, title = "baselines", "Running the baselines at the same spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        config = setting.config
        rows = baseline_rows(setting.num_budgets, config.num_random, config.signals)
        super().__init__(setting, rows)
        self._policies = policies

    def saved(self, batch: Batch) -> dict[str, Floats]:
        return super().saved(batch) | {"steering": self._rows.steering()}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        # The schedules run on from text to text: bring them to where this batch left them.
        rollouts = self._rollouts(batch.first, batch.count)
        for first in range(rollouts.start, rollouts.stop, self._rollouts_at_once):
            for start, stop in self._pieces:
                count = min(self._rollouts_at_once, rollouts.stop - first)
                self._parts(self.rows[start:stop], first, count)
        self._rows.steer(arrays["steering"])

    @cached_property
    def _rows(self) -> BaselineRows:
        setting, spends = self.setting, self._policies.matched()
        if setting.mixes is not None:
            return ShareRows(self, spends)
        return BaselineRows(spends, setting.grid, setting.horizon, seed=setting.config.seed)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        return self._rows.parts(rows, first, count)


class PaperPass(TablePass):
    """The paper's mechanisms, a row for each budget."""

    name, title = "paper", "Running the paper's mechanisms at the same bytes"

    def __init__(self, setting: Setting, baselines: BaselinePass) -> None:
        """Match the static rows of ``baselines``, which must have run over all texts."""
        rows = [Row("paper", budget) for budget in range(setting.num_budgets)]
        super().__init__(replace(setting, grid=paper_grid(setting.grid)), rows)
        self._baselines = baselines
        self._corners = attention_first(self.setting.grid)
        self._beyond: Floats | None = None  # [budgets] share read beyond what actions allow

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        if self._beyond is None:
            trial = partial(self._tried, first_text, blocks[:1])
            self._beyond = read_beyond(len(self.rows), trial)
        super().run_texts(first_text, blocks)

    def _tried(self, first_text: int, blocks: Tensor, beyond: Floats) -> tuple[Floats, Floats]:
        """Shares that one text's rollouts read, and that their actions allowed: [budgets] each."""
        self._beyond = beyond
        super().run_texts(first_text, blocks)
        tried, config = self._rollouts(first_text, 1), self.setting.config
        read: Floats = self.share[tried].mean(0)
        contexts = [config.first_context(n) for n in range(tried.start, tried.stop)]
        allowed = [
            [self.costs.share(self._budget(row.budget, at), at) for at in contexts]
            for row in self.rows
        ]
        return read, np.mean(allowed, 1)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        assert self._beyond is not None
        return super().saved(batch) | {"beyond": self._beyond}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        self._beyond = arrays["beyond"]

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        config, grid = self.setting.config, self.setting.grid

        def static(row: Row, slot: int) -> StaticSchedule:
            budget = self._budget(row.budget, config.first_context(first + slot))
            return StaticSchedule(budget, grid, first_step=(first + slot) * config.steps)

        return row_by_row(rows, count, static)

    def _budget(self, index: int, context: int) -> Budget:
        assert self._beyond is not None
        column = self._baselines.column("static", index)
        share = float(self._baselines.share[:, column].mean() - self._beyond[index])
        bits = float(self._baselines.spend[:, column, 2].mean())
        reading = partial(self.costs.share, cached_tokens=context)
        return budget_on_path(self._corners, bits, share, reading)
