"""The engine: a frozen language model decoded step by step under a compute schedule.

It knows no UI and no database: it returns frozen records and yields frozen events. Example::

    from sol_core import Budget, GenerationConfig, generate, load_model, load_policy

    model = load_model()
    policy, chat = load_policy("default", model), GenerationConfig(chat=True)
    made = generate(model, "Why is the sky blue?", policy, Budget(0.5, 0.7, 8), config=chat)
    print(made.text)

Names are imported on first use, so importing this package imports nothing heavy. Before the first
use imports torch, OpenMP's threads are told not to spin.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernels import __version__

if TYPE_CHECKING:
    from sol_core.accuracy.config import TasksConfig
    from sol_core.actions import Action, ActionGrid, Budget, MlpPruner, PageScorer, Spend
    from sol_core.api.evaluating import evaluate, tasks
    from sol_core.api.generating import (
        count_tokens,
        generate,
        generate_many,
        load_model,
        load_policy,
        predict,
        score,
        stream_generate,
    )
    from sol_core.api.inspecting import Inspection, inspect, what_if
    from sol_core.api.training import train
    from sol_core.budgets.prediction import Prediction
    from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig, SideRowConfig
    from sol_core.decoding.batch_scheduling import StepObservation
    from sol_core.errors import SolError
    from sol_core.evaluation.config import EvaluationConfig
    from sol_core.evaluation.result import EvaluationResult
    from sol_core.events import FinishEvent, PrefillEvent, PrefillProgress, TokenEvent
    from sol_core.generation.attach import attach, sol_generate
    from sol_core.generation.finished import Generation, Score
    from sol_core.inspection.records import InspectionConfig
    from sol_core.models.loading import LanguageModel, from_transformers
    from sol_core.policy.info import PolicyConfig
    from sol_core.policy.policy import Policy
    from sol_core.training.config import GrpoConfig, TrainConfig, WarmStartConfig, preset

__all__ = [
    "Action", "ActionGrid", "Budget", "EvaluationConfig", "EvaluationResult", "FinishEvent",
    "Generation", "GenerationConfig", "GrpoConfig", "Inspection", "InspectionConfig",
    "LanguageModel", "MlpPruner", "PageScorer", "Policy", "PolicyConfig", "Prediction",
    "PrefillEvent", "PrefillProgress", "SamplingConfig", "ScheduleConfig", "Score", "SideRowConfig",
    "SolError", "Spend", "StepObservation", "TasksConfig", "TokenEvent", "TrainConfig",
    "WarmStartConfig", "__version__", "attach", "count_tokens", "evaluate", "from_transformers",
    "generate", "generate_many", "inspect", "load_model", "load_policy", "predict", "preset",
    "score", "sol_generate", "stream_generate", "tasks", "train", "what_if",
]  # fmt: skip

_NAMES = {
    "actions": "Action ActionGrid Budget MlpPruner PageScorer Spend",
    "api.generating": (
        "count_tokens generate generate_many load_model load_policy predict score stream_generate"
    ),
    "api.evaluating": "evaluate tasks",
    "api.inspecting": "Inspection inspect what_if",
    "api.training": "train",
    "budgets.prediction": "Prediction",
    "config": "GenerationConfig SamplingConfig ScheduleConfig SideRowConfig",
    "decoding.batch_scheduling": "StepObservation",
    "errors": "SolError",
    "evaluation.config": "EvaluationConfig",
    "evaluation.result": "EvaluationResult",
    "events": "FinishEvent PrefillEvent PrefillProgress TokenEvent",
    "generation.attach": "attach sol_generate",
    "generation.finished": "Generation Score",
    "inspection.records": "InspectionConfig",
    "models.loading": "LanguageModel from_transformers",
    "policy.policy": "Policy",
    "policy.info": "PolicyConfig",
    "accuracy.config": "TasksConfig",
    "training.config": "GrpoConfig TrainConfig WarmStartConfig preset",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
# Turns that a thread of GNU OpenMP spins for before it sleeps. Its own default spins for
# milliseconds: beside any busy program, every loop then waits for a thread without a core.
_SPIN_COUNT = "1000"


def limit_spinning() -> None:
    """Limit spinning before torch and Numba are imported; what the user has set stays."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    limit_spinning()
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
