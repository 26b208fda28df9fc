"""Settings of the tasks: frozen, validated, stored with their result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from sol_core.actions import Budget
from sol_core.errors import ConfigError
from sol_core.evaluation.config import check_budgets
from sol_core.fields import Range, Seed, check_fields, config_from_dict

__all__ = ["TASK_NAMES", "TasksConfig", "parse_tasks"]

TASK_NAMES = ("arc_easy", "hellaswag", "piqa", "winogrande", "lambada", "mmlu")
MAX_BUDGETS = 16

# From mild to harsh, as net keep rates of 0.83, 0.67 and 0.52.
DEFAULT_BUDGETS = (Budget(0.7, 0.8, 16.0), Budget(0.5, 0.7, 12.8), Budget(0.4, 0.6, 9.0))


@dataclass(frozen=True, slots=True)
class TasksConfig:
    """Everything that decides the tasks' numbers besides the model, the policy and the machine.

    Attributes: see each field's help.
    """

    tasks: tuple[str, ...] = field(
        default=TASK_NAMES, metadata={"help": "downstream tasks, by name"}
    )
    limit: Annotated[int, Range(2, 1_000_000)] = field(
        default=500, metadata={"help": "questions of each task, at most"}
    )
    budgets: tuple[Budget, ...] = field(
        default=DEFAULT_BUDGETS,
        metadata={"help": "mean spends to ask for: keep, channels, bits"},
    )
    seed: Seed = field(default=0, metadata={"help": "decides which questions, and intervals"})

    def __post_init__(self) -> None:
        check_fields(self)
        check_tasks(self.tasks)
        check_budgets(self.budgets, MAX_BUDGETS)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; ``from_dict`` reads it back."""
        return asdict(self)

    @staticmethod
    def from_dict(record: dict[str, Any]) -> TasksConfig:
        """Rebuild a configuration from its JSON form.

        Raises: ConfigError for unknown keys and values that are not allowed.
        """
        return config_from_dict(TasksConfig, record)


def parse_tasks(text: str) -> tuple[str, ...]:
    """Read ``"arc_easy,piqa"``.

    Raises: ConfigError that names the unknown one.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    check_tasks(names)
    return names


def check_tasks(names: tuple[str, ...]) -> None:
    """Raises: ConfigError for no task, an unknown one, or one that is there twice."""
    allowed = ", ".join(TASK_NAMES)
    if not isinstance(names, tuple) or not names:
        raise ConfigError(f"no task given; allowed: {allowed}")
    for name in names:
        if name not in TASK_NAMES:
            raise ConfigError(f"unknown task {name!r}; allowed: {allowed}")
    if len(set(names)) != len(names):
        raise ConfigError("a task is there twice")
