"""Tasks: questions that measure a policy's effect on accuracy, at the spend of its baselines.

The measures are in ``sol_core.comparing``.

``run_tasks`` is imported on first use: the page reads configurations and must not import torch.
"""

from typing import TYPE_CHECKING, Any

from sol_core.tasks.config import (
    TASK_NAMES,
    TasksConfig,
    parse_baselines,
    parse_contexts,
    parse_tasks,
)

if TYPE_CHECKING:
    from sol_core.tasks.runner import run_tasks

__all__ = [
    "TASK_NAMES",
    "TasksConfig",
    "parse_baselines",
    "parse_contexts",
    "parse_tasks",
    "run_tasks",
]


def __getattr__(name: str) -> Any:
    if name == "run_tasks":
        from sol_core.tasks.runner import run_tasks

        return run_tasks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
