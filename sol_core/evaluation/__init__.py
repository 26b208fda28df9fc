"""Evaluation of policies at matched spend: baselines, intervals, probes, results.

The measures are in ``sol_core.comparing``, accuracy on tasks is in ``sol_core.tasks``.

``evaluate`` is imported on first use: the page reads configurations and must not import torch.
"""

from typing import TYPE_CHECKING, Any

from sol_core.evaluation.config import (
    REFERENCE_BUDGETS,
    EvaluationConfig,
    parse_baselines,
    parse_budgets,
)

if TYPE_CHECKING:
    from sol_core.evaluation.runner import evaluate

__all__ = ["REFERENCE_BUDGETS", "EvaluationConfig", "evaluate", "parse_baselines", "parse_budgets"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from sol_core.evaluation.runner import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
