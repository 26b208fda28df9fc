"""Configuration of an evaluation, validated and stored with its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sol_core.actions import SHORT_AXES, Budget, Record, parse_budget, parse_share_budget
from sol_core.corpus.documents import check_corpus
from sol_core.errors import ConfigError
from sol_core.fields import Positive, Range, Seed, check_fields, configuration, setting

PLAIN_BASELINES = ("static", "dense", "emc", "dac")
BASELINES_HELP = "static, dense, emc, dac, or random:N with N schedules, as in random:10"
MAX_RANDOM = 1000
MAX_BUDGETS = 64

# Each pair of levels of two axes occurs once: (κ, ρ, b).
REFERENCE_BUDGETS = tuple(
    Budget(keep_fraction, ratio, (6.0, 8.0, 16.0)[(row + column) % 3])
    for row, keep_fraction in enumerate((0.3, 0.5, 0.7))
    for column, ratio in enumerate((0.45, 0.6, 0.8))
)


@configuration
@dataclass(frozen=True, slots=True)
class EvaluationConfig(Record):
    """Everything besides model, policies and machine that determines an evaluation."""

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {
        "refresh": False,
        "sampled": False,
        "pollution": False,
    }

    corpus: str = setting(
        "builtin",
        "builtin, papers, a text file or folder, or a Hub data set owner/name:config:part:column",
    )
    budgets: tuple[Budget, ...] = setting(
        REFERENCE_BUDGETS, f"mean spends to ask for: {', '.join(SHORT_AXES)}"
    )
    baselines: tuple[str, ...] = setting(
        ("static", "random:10"), "static and the full model always run; also random:N, emc, dac"
    )
    texts: Annotated[int, Range(2, 1_000_000)] = setting(
        128, "texts; texts × windows × steps tokens are scored"
    )
    context: Annotated[int, Range(1, 1_000_000)] = setting(
        256, "tokens before the first step, read in full"
    )
    steps: Annotated[int, Range(1, 1_000_000)] = setting(16, "scored decode steps of a rollout")
    windows: Positive = setting(1, "rollouts per text, one after another; they share its prompt")
    seed: Seed = setting(0, "decides texts, random schedules, intervals")

    def __post_init__(self) -> None:
        check_corpus(self.corpus)
        check_fields(self)
        if not self.corpus.strip():
            raise ConfigError(
                f"corpus must be builtin, papers, a path or a Hub data set, got {self.corpus!r}"
            )
        check_budgets(self.budgets, MAX_BUDGETS)
        _check_baselines(self.baselines)

    @property
    def by_share(self) -> bool:
        """Return whether budgets are shares of the dense bytes."""
        return self.budgets[0].bytes_share is not None

    @property
    def block_len(self) -> int:
        """Return a text's tokens: the context, those that are fed, and a last, only predicted."""
        return self.context + self.windows * self.steps + 1

    @property
    def num_rollouts(self) -> int:
        """Return the rollouts of each schedule: the windows of all texts."""
        return self.texts * self.windows

    @property
    def scored_tokens(self) -> int:
        """Return the number of tokens that each schedule is scored on."""
        return self.num_rollouts * self.steps

    def first_context(self, rollout: int) -> int:
        """Return the tokens that a rollout's first step attends over."""
        return self.context + rollout % self.windows * self.steps + 1

    @property
    def num_random(self) -> int:
        """Return the random schedules per text and budget; 0 without that baseline."""
        return next((_number(name) for name in self.baselines if name.startswith("random")), 0)

    @property
    def signals(self) -> tuple[str, ...]:
        """Return the requested signal-driven baselines: emc, dac."""
        return tuple(name for name in ("emc", "dac") if name in self.baselines)


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Parse budgets: ``"0.5,0.6,8;0.3,0.5,7"`` (keep, channels, bits) or ``"50%,65%"`` (shares).

    Budgets are separated by ";", shares also by ",".
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts:
        names = ",".join(SHORT_AXES)
        raise ConfigError(
            f'no budget given; write {names} as in "0.5,0.6,8;0.3,0.5,7", or shares of the bytes '
            'as in "50%,65%"'
        )
    budgets: list[Budget] = []
    for part in parts:
        budgets += (
            map(parse_share_budget, parse_names(part)) if "%" in part else [parse_budget(part)]
        )
    return tuple(budgets)


def parse_names(text: str) -> tuple[str, ...]:
    """Split ``"static,random:10"`` into names, which the configurations check."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_baselines(names: tuple[str, ...]) -> None:
    kinds = []
    for name in names:
        if name not in PLAIN_BASELINES:
            _number(name)
        kinds.append(name.partition(":")[0])
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ConfigError(f"baseline {', '.join(twice)} is there twice")


def _number(name: str) -> int:
    """Parse N of "random:N"."""
    kind, _, count = name.partition(":")
    if kind != "random":
        raise ConfigError(f'unknown baseline "{name}"; allowed: {BASELINES_HELP}')
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= MAX_RANDOM):
        raise ConfigError(
            f'baseline "{name}" needs a number of schedules from 1 to {MAX_RANDOM}, as in random:10'
        )
    return int(count)


def check_budgets(budgets: tuple[Budget, ...], most: int) -> None:
    """Raise ConfigError for no budget, too many, duplicates, or mixed kinds."""
    if not budgets or not all(isinstance(b, Budget) for b in budgets):
        raise ConfigError(f"budgets must name at least one budget: {', '.join(SHORT_AXES)}")
    for budget in budgets:
        budget.check_request()
    if len({budget.bytes_share is None for budget in budgets}) > 1:
        raise ConfigError(
            "budgets of one run are all shares of the bytes or all a value per axis: "
            "ask for them in two runs"
        )
    if len(budgets) > most:
        raise ConfigError(f"at most {most} budgets, got {len(budgets)}")
    if len(set(budgets)) != len(budgets):
        raise ConfigError("budgets must differ from one another; one is there twice")
