"""A hand-made schedule against policy, static and random ones, on the same tokens.

A passage is a text whose last tokens are decoded teacher-forced after a dense context. The
policy plays first; what it really spent is the budget of everybody else, so that all rivals
spend the same. All schedules are then rows of one batch that share the dense prefix, and row 0
is dense: the reference for KL (``comparing/rollout.py``, the decode loop of ``loop.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sol_core.actions import AXES, AXIS_FIELDS, DENSE, Action, ActionGrid, Budget
from sol_core.budgets.building import build_scheduler
from sol_core.comparing.contenders import Contender
from sol_core.comparing.methods import PlannedRows, derive_seed
from sol_core.comparing.rollout import Prefix, Rollout, roll_out
from sol_core.config import ScheduleConfig
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, observed_prefill
from sol_core.decoding.schedules import Horizon, Observation
from sol_core.errors import ConfigError, ContextLengthError, PolicyError
from sol_core.evaluation.stages import assemble
from sol_core.models.loading import LanguageModel

DENSE_NAME = "dense"
TOLERANCE = 1e-6  # of a sum of levels, which binary fractions do not hold exactly


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to decode the end of.

    Attributes:
        tokens: all of it.
        steps: how many of the last ones are decoded, each by one step; those before are dense
            context, at least two.
    """

    tokens: tuple[int, ...]
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1 or self.before < 2:
            raise ConfigError(
                "a passage needs at least one token to decode and two tokens before it, got "
                f"{len(self.tokens)} tokens with {self.steps} to decode"
            )

    @property
    def before(self) -> int:
        """Tokens of the dense context; the last of them is what step 0 feeds."""
        return len(self.tokens) - self.steps


@dataclass(frozen=True, slots=True)
class ScheduleScore:
    """Scores of a schedule on a passage, step by step.

    Attributes:
        nll: of the passage's token, nats.
        kl: KL(dense ‖ this schedule), nats.
        entropy: of the dense distribution, nats.
    """

    actions: tuple[Action, ...]
    nll: tuple[float, ...]
    kl: tuple[float, ...]
    entropy: tuple[float, ...]

    @property
    def mean_nll(self) -> float:
        return sum(self.nll) / len(self.nll)

    @property
    def mean_kl(self) -> float:
        return sum(self.kl) / len(self.kl)


class Arena:
    """Scores schedules on one passage; its dense prefix is computed once.

    Raises: ConfigError, ContextLengthError for tokens that the model does not have room for.
    """

    def __init__(self, model: LanguageModel, passage: Passage, grid: ActionGrid) -> None:
        if not 0 <= min(passage.tokens) <= max(passage.tokens) < model.spec.vocab_size:
            raise ConfigError(
                f"the text has tokens outside the vocabulary of {model.name} "
                f"(0 to {model.spec.vocab_size - 1})"
            )
        if len(passage.tokens) - 1 > model.context_length:
            raise ContextLengthError(
                f"{len(passage.tokens)} tokens exceed the context of {model.name}, "
                f"{model.context_length}; shorten the text"
            )
        self._lm, self._passage, self._grid = model.lm, passage, grid
        self._prefix = self._prefill()

    def play(self, contender: Contender, budget: Budget) -> tuple[Action, ...]:
        """Return the schedule and scores of a greedy policy at a budget.

        Raises: PolicyError for a policy of another grid; ConfigError for a budget outside it.
        """
        if contender.grid != self._grid:
            raise PolicyError(
                f"policy {contender.name!r} was trained for another grid of levels, page size "
                "or quantisation site"
            )
        scheduler = contender.policy.scheduler([budget], seed=None)
        rows = assemble([([(0, 0)], scheduler)], 1, 2, self._passage.steps)
        return _actions(self._roll_out(rows, 2), 1)

    def score(self, schedules: Mapping[str, Sequence[Action]]) -> dict[str, ScheduleScore]:
        """Every schedule by its name, and the dense one first; one batch.

        Raises: ConfigError for a schedule of another length, or named "dense".
        """
        steps = self._passage.steps
        for name, schedule in schedules.items():
            if name == DENSE_NAME or len(schedule) != steps:
                raise ConfigError(
                    f"schedule {name!r} has {len(schedule)} actions; it needs {steps}, and a name "
                    f"other than {DENSE_NAME!r}"
                )
        plans = PlannedRows([[DENSE] * steps, *schedules.values()])
        rollout = self._roll_out(plans, 1 + len(schedules))
        entropy = tuple(rollout.dense_entropy[0].tolist())
        return {
            name: ScheduleScore(
                _actions(rollout, row),
                tuple(rollout.nll[0, row].tolist()),
                tuple(rollout.kl[0, row].tolist()),
                entropy,
            )
            for row, name in enumerate([DENSE_NAME, *schedules])
        }

    def _prefill(self) -> Prefix:
        passage, lm = self._passage, self._lm
        tokens = torch.tensor([passage.tokens], device=lm.device)
        fed = passage.before - 1
        cache = lm.new_cache(1, fed, page_size=self._grid.page_size)
        state = observed_prefill(lm, tokens[:, :fed], cache, self._grid.mechanisms)
        return Prefix(cache, state, tokens[:, fed:])

    def _roll_out(self, scheduler: BatchScheduler, rows: int) -> Rollout:
        options = DecodeOptions(self._passage.steps, self._grid.mechanisms, rows_per_sequence=rows)
        return roll_out(self._lm, self._prefix, scheduler, options)


def rivals(
    policy: Sequence[Action], grid: ActionGrid, *, num_random: int, seed: int
) -> dict[str, tuple[Action, ...]]:
    """Schedules that spend what the policy did: "static" and "random 1" to "random N".

    Sums of levels are met exactly where an axis' levels are evenly spaced, as the paper's are.
    """
    spend, steps = mean_spend(policy), len(policy)
    configs = {"static": ScheduleConfig("static", spend)}
    for number in range(1, num_random + 1):
        row_seed = derive_seed(seed, "arena", number)
        configs[f"random {number}"] = ScheduleConfig("random", spend, row_seed)
    horizon = Horizon(steps, steps)
    schedulers = {
        name: build_scheduler(config, grid, horizon=horizon) for name, config in configs.items()
    }
    return {
        name: tuple(scheduler.next_action(Observation(step)) for step in range(steps))
        for name, scheduler in schedulers.items()
    }


def best_of(scores: Mapping[str, ScheduleScore]) -> str:
    """The name of the schedule that stays closest to dense: least mean KL."""
    return min(scores, key=lambda name: scores[name].mean_kl)


def mean_spend(actions: Sequence[Action]) -> Budget:
    """Mean of every axis over the steps."""
    columns = zip(*(action.as_tuple() for action in actions), strict=True)
    return Budget(*(round(sum(column) / len(actions), 9) for column in columns))


def check_schedule(schedule: Sequence[Action], limit: Budget, grid: ActionGrid) -> None:
    """Refuse actions that are not of the grid, and a schedule that spends more than ``limit``.

    Raises: ConfigError that says by how much, summed over the steps.
    """
    for step, action in enumerate(schedule):
        for axis, levels in zip(AXES, grid.levels(), strict=True):
            value = getattr(action, axis.field)
            if value not in levels:
                raise ConfigError(
                    f"step {step}: {axis.field} must be one of the grid's levels "
                    f"{levels[0]:g} to {levels[-1]:g}, got {value:g}"
                )
    excess = {
        axis: sum(values) - allowed * len(schedule)
        for axis, values, allowed in zip(
            AXIS_FIELDS,
            zip(*(action.as_tuple() for action in schedule), strict=True),
            limit.as_tuple(),
            strict=True,
        )
    }
    over = [f"{axis} by {value:.4g}" for axis, value in excess.items() if value > TOLERANCE]
    if over:
        raise ConfigError(
            f"the schedule is over the budget, summed over its {len(schedule)} tokens: "
            f"{', '.join(over)}. Lower some tokens."
        )


def _actions(rollout: Rollout, row: int) -> tuple[Action, ...]:
    return tuple(Action.of(values) for values in rollout.spend[0, row].tolist())
