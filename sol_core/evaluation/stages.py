"""The two passes of an evaluation at matched spend.

Pass 1 runs the policies at every budget over all texts and so finds what they really
spend; pass 2 runs the baselines at exactly that mean, per axis or, where budgets are shares of the
bytes, in bytes. Both run the dense model beside
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from sol_core.actions import DENSE, Budget
from sol_core.comparing.methods import (
    BaselineRows,
    Part,
    PlannedRows,
    Row,
    baseline_rows,
    derive_seed,
)
from sol_core.comparing.rollout import Floats, Layout, Rollout, prefill_texts, roll_out
from sol_core.decoding.batch_scheduling import BatchScheduler, SplitScheduler
from sol_core.decoding.cost import NO_POLICY, CostModel, PolicyReads, StepBytes
from sol_core.decoding.loop import DecodeOptions
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.share_rows import ShareRows
from sol_core.evaluation.tables import ScoreTable, Setting, TokenTable

PROBE_TEXTS = 64  # texts of a probe, at most
ROWS_AT_ONCE = 128  # a row costs a quarter less than with 64
MOST_PREFILLED = 65_536  # tokens of the texts of a batch: 1.5 GB of the default model's cache
PREFILL_UNITS = 0.5  # work of a prefilled token beside that of a decoded row's step


class TextStage:
    """A stage that goes over the first ``num_texts`` texts; subclasses say what it runs."""

    name, title = "", ""

    def __init__(self, setting: Setting, num_texts: int) -> None:
        self.setting, self.num_texts = setting, num_texts

    @property
    def texts_at_once(self) -> int:
        """Return the number of texts of a batch."""
        raise NotImplementedError

    @property
    def units_per_text(self) -> float:
        """Return the work per text, in steps of one row."""
        raise NotImplementedError

    @property
    def batches(self) -> list[Batch]:
        """Ranges of texts."""
        ranges, size = [], self.texts_at_once
        for first in range(0, self.num_texts, size):
            count = min(size, self.num_texts - first)
            ranges.append(Batch(first, count, count * self.units_per_text))
        return ranges

    def message(self, batch: Batch) -> str:
        """Title and the number of texts that are done."""
        return f"{self.title}: text {batch.first + batch.count} of {self.num_texts}"

    def run(self, batch: Batch) -> None:
        """Roll out the batch's texts."""
        blocks = self.setting.texts[batch.first : batch.first + batch.count]
        self.run_texts(batch.first, blocks)

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        """Roll out some texts: [B, ``config.block_len``] int64."""
        raise NotImplementedError

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        """Return the numbers of some texts, as views into the stage's own arrays."""
        raise NotImplementedError

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """Return what ``restore`` needs of a batch that has just run."""
        return self.part(batch.first, batch.count)

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run; batches come in order, restored or run."""
        for name, view in self.part(batch.first, batch.count).items():
            view[...] = arrays[name]


def assemble(parts: Sequence[Part], count: int, group: int, steps: int) -> SplitScheduler:
    """One scheduler of all rows; row 0 of each rollout is dense."""
    dense = PlannedRows([[DENSE] * steps] * count)
    placed: list[tuple[list[int], BatchScheduler]] = [
        ([rollout * group for rollout in range(count)], dense)
    ]
    for rows, scheduler in parts:
        placed.append(([rollout * group + 1 + number for rollout, number in rows], scheduler))
    return SplitScheduler(placed)


def split_evenly(count: int, most: int) -> list[tuple[int, int]]:
    """Cut ``count`` things into the fewest ranges of at most ``most``, about equal."""
    pieces = max(1, -(-count // most))
    return [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


class TablePass(TextStage):
    """Runs a table's rows over the texts."""

    def __init__(self, setting: Setting, rows: Sequence[Row]) -> None:
        super().__init__(setting, setting.config.texts)
        self.table = ScoreTable(rows, setting.config.num_rollouts)
        costs = CostModel.of(setting.lm, setting.grid)
        self.step_bytes = StepBytes(costs) if setting.config.by_share else None
        self._pieces = split_evenly(len(rows), ROWS_AT_ONCE - 1)
        self._largest_group = 1 + max(stop - start for start, stop in self._pieces)

    @property
    def texts_at_once(self) -> int:
        config = self.setting.config
        fitting = min(
            ROWS_AT_ONCE // (self._largest_group * config.windows),
            MOST_PREFILLED // config.block_len,
        )
        return max(1, fitting)

    @property
    def _rollouts_at_once(self) -> int:
        return max(1, ROWS_AT_ONCE // self._largest_group)

    @property
    def units_per_text(self) -> float:
        config = self.setting.config
        rows = len(self.table.rows) + len(self._pieces)
        fed = config.windows * config.steps
        return rows * fed + PREFILL_UNITS * (config.context + fed - config.steps)

    def roll_out(
        self, first_text: int, blocks: Tensor, *, observe: bool
    ) -> Iterator[tuple[int, int, Rollout, Floats | None]]:
        """Roll out all rows of some texts into the table, about 128 rows at a time.

        Yields: the first rollout's number, the first row's column, the scores, and the bytes of
            every step where they are counted.
        """
        setting, config = self.setting, self.setting.config
        layout = Layout(config.context, config.steps, config.windows)
        prefix = prefill_texts(setting.lm, blocks, layout, setting.grid, observe=observe)
        for offset, part in prefix.parts(self._rollouts_at_once):
            first, count = first_text * config.windows + offset, part.path.shape[0]
            for start, stop in self._pieces:
                group = 1 + stop - start
                parts = self._parts(self.table.rows[start:stop], first, count)
                options = DecodeOptions(
                    config.steps, setting.grid.mechanisms, rows_per_sequence=group
                )
                scheduler = assemble(parts, count, group, config.steps)
                rollout = roll_out(setting.lm, part, scheduler, options)
                read = None
                if self.step_bytes is not None:
                    policies = [self._policy_reads(row) for row in self.table.rows[start:stop]]
                    read = rollout.bytes_read(self.step_bytes, [NO_POLICY, *policies])
                self.table.add(first, start, rollout, read)
                yield first, start, rollout, read

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        for _ in self.roll_out(first_text, blocks, observe=False):
            pass

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        counted = ("share", "num_bytes", "dense_bytes") if self.step_bytes is not None else ()
        names = ("nll", "kl", "spend", "dense_nll", *counted)
        rollouts = self._rollouts(first_text, count)
        return {name: getattr(self.table, name)[rollouts] for name in names}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        self.table.done = self._rollouts(batch.first, batch.count).stop

    def _rollouts(self, first_text: int, count: int) -> slice:
        windows = self.setting.config.windows
        return slice(first_text * windows, (first_text + count) * windows)

    def _policy_reads(self, row: Row) -> PolicyReads:
        return NO_POLICY

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        raise NotImplementedError


class PolicyPass(TablePass):
    """Pass 1: every policy at every requested budget.

    Attributes:
        tokens: the first policy's rows, token by token.
    """

    name, title = "policy", "Running the policy"

    def __init__(self, setting: Setting) -> None:
        config = setting.config
        self._sources = {"policy": (setting.contenders[0], False)}
        if config.sampled:
            self._sources["policy_sampled"] = (setting.contenders[0], True)
        for contender in setting.contenders[1:]:
            self._sources[f"policy:{contender.name}"] = (contender, False)
        super().__init__(
            setting,
            [
                Row(method, budget)
                for method in self._sources
                for budget in range(len(config.budgets))
            ],
        )
        self.tokens = TokenTable(len(config.budgets), config.num_rollouts, config.steps)

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        for first, start, rollout, read in self.roll_out(first_text, blocks, observe=True):
            self.tokens.add(first, start, rollout, read)

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        tokens, rollouts = self.tokens, self._rollouts(first_text, count)
        arrays = super().part(first_text, count) | {
            "token_surprisal": tokens.surprisal[rollouts],
            "token_entropy": tokens.entropy[rollouts],
            "token_spend": tokens.spend[:, rollouts],
            "token_kl": tokens.kl[:, rollouts],
        }
        if self.setting.config.by_share:
            arrays["token_share"] = tokens.share[:, rollouts]
        return arrays

    def spends(self) -> list[Budget]:
        """The first policy's mean spend over all rollouts, per requested budget."""
        return [
            Budget(*self.table.spend[:, self.table.column("policy", budget)].mean(axis=0).tolist())
            for budget in range(len(self.setting.config.budgets))
        ]

    def shares(self) -> list[Budget]:
        """The first policy's mean share of the bytes, its own among them, and its mean bits."""
        columns = [self.table.column("policy", n) for n in range(len(self.setting.config.budgets))]
        return [
            Budget.share(min(float(self.table.share[:, column].mean()), 1.0), spent.bit_width)
            for column, spent in zip(columns, self.spends(), strict=True)
        ]

    def _policy_reads(self, row: Row) -> PolicyReads:
        return self._sources[row.method][0].reads

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        config, parts = self.setting.config, []
        for method, (contender, sampled) in self._sources.items():
            mine = [(n, row.budget) for n, row in enumerate(rows) if row.method == method]
            placed = [(rollout, number) for rollout in range(count) for number, _ in mine]
            if not mine:
                continue
            scheduler = contender.policy.scheduler(
                [config.budgets[budget] for _ in range(count) for _, budget in mine],
                seed=derive_seed(config.seed, method, first) if sampled else None,
            )
            parts.append((placed, scheduler))
        return parts


class BaselinePass(TablePass):
    """Pass 2: the baselines at what pass 1 spent; it must have run over all texts."""

    name, title = "baselines", "Running the baselines at the same spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        config = setting.config
        rows = baseline_rows(
            len(config.budgets), config.num_random, config.signals, by_share=config.by_share
        )
        super().__init__(setting, rows)
        self._policies = policies
        self._built: BaselineRows | None = None

    def saved(self, batch: Batch) -> dict[str, Floats]:
        return super().saved(batch) | {"steering": self._rows.steering()}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        # The schedules run on from text to text: bring them to where this batch left them.
        rollouts = self._rollouts(batch.first, batch.count)
        for first in range(rollouts.start, rollouts.stop, self._rollouts_at_once):
            for start, stop in self._pieces:
                rows = self.table.rows[start:stop]
                self._parts(rows, first, min(self._rollouts_at_once, rollouts.stop - first))
        self._rows.steer(arrays["steering"])

    @property
    def _rows(self) -> BaselineRows:
        if self._built is None:
            setting = self.setting
            if setting.mixes is not None:
                self._built = ShareRows(setting, self.table, self._policies.shares())
            else:
                self._built = BaselineRows(
                    self._policies.spends(), setting.grid, setting.horizon, seed=setting.config.seed
                )
        return self._built

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        return self._rows.parts(rows, count, first)
