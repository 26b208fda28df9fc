"""Settings of the tasks, validated and stored with their result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sol_core.actions import SHORT_AXES, Budget, Record
from sol_core.errors import ConfigError
from sol_core.evaluation.config import check_budgets
from sol_core.fields import Range, Seed, check_fields, check_names, configuration, setting

TASK_NAMES = ("arc_easy", "hellaswag", "piqa", "winogrande", "lambada", "mmlu")
MAX_BUDGETS = 16

# Net keep rates of 0.85, 0.75, 0.65 and a harsh 0.47.
DEFAULT_BUDGETS = (
    Budget(0.8, 0.85, 14.4),
    Budget(0.6, 0.75, 14.4),
    Budget(0.4, 0.65, 14.4),
    Budget(0.2, 0.5, 11.2),
)


@configuration
@dataclass(frozen=True, slots=True)
class TasksConfig(Record):
    """Everything besides model, policy and machine that determines the tasks' numbers."""

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"baselines": ["static"], "contexts": list}

    tasks: tuple[str, ...] = setting(TASK_NAMES, "downstream tasks, by name")
    limit: Annotated[int, Range(2, 1_000_000)] = setting(500, "questions of each task, at most")
    budgets: tuple[Budget, ...] = setting(
        DEFAULT_BUDGETS, f"mean spends to ask for: {', '.join(SHORT_AXES)}"
    )
    seed: Seed = setting(0, "decides which questions, and intervals")

    def __post_init__(self) -> None:
        check_fields(self)
        check_names(self.tasks, TASK_NAMES, "there is no task")
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"tasks must be some of {', '.join(TASK_NAMES)}, each once")
        check_budgets(self.budgets, MAX_BUDGETS)

    @property
    def by_share(self) -> bool:
        """Return whether budgets are shares of the dense bytes."""
        return self.budgets[0].bytes_share is not None
