"""Downstream tasks: what a policy does to accuracy, at the spend of its baselines.

What policies and baselines are compared with is in ``sol_core.comparing``.

``run_benchmark`` is looked up when it is first asked for: the page reads configurations and
must not import torch.
"""

from typing import TYPE_CHECKING, Any

from sol_core.tasks.config import TASK_NAMES, BenchmarkConfig, parse_tasks
from sol_core.tasks.events import BenchmarkEvent, BenchmarkFinished, BenchmarkProgress

if TYPE_CHECKING:
    from sol_core.tasks.runner import run_benchmark

__all__ = [
    "TASK_NAMES",
    "BenchmarkConfig",
    "BenchmarkEvent",
    "BenchmarkFinished",
    "BenchmarkProgress",
    "parse_tasks",
    "run_benchmark",
]


def __getattr__(name: str) -> Any:
    if name == "run_benchmark":
        from sol_core.tasks.runner import run_benchmark

        return run_benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
