"""Evaluate methods at equal spend, by losses or by answers on tasks, each in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.api.arguments import (
    check_model,
    data_folder,
    finished_work,
    methods_by_name,
    with_settings,
)
from sol_core.errors import ConfigError
from sol_core.fields import changed, check_kind, check_names
from sol_core.progress import Progress

if TYPE_CHECKING:
    from sol_core.accuracy.config import TasksConfig
    from sol_core.actions import ActionGrid
    from sol_core.decoding.batch_scheduling import Schedule
    from sol_core.evaluation.config import EvaluationConfig
    from sol_core.evaluation.result import EvaluationResult
    from sol_core.models.loading import LanguageModel
    from sol_core.policy.policy import Policy


def evaluate(
    model: LanguageModel,
    methods: Mapping[str, Policy | Schedule | str | Path] | Policy | Schedule | str | Path,
    config: EvaluationConfig | None = None,
    *,
    spend_of: str | None = None,
    corpus: Any = None,
    grid: ActionGrid | None = None,
    data_dir: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> EvaluationResult:
    """Compare policies and schedules with each other and the baselines at equal spend.

    Args:
        model: as returned by ``load_model``.
        methods: a dict of methods by name, or a single method: a policy, its name or folder, a
            function of an observation, or a class of such functions (one instance per sequence).
            A parameter ``budget`` receives the requested budget; for all but the first method,
            what the first one actually spent.
        config: text, budgets, baselines, counts; None means the command line's (minutes).
        spend_of: name of the method whose spend the others match; None means the first.
        corpus: as for ``train``.
        grid: grid of methods that are not policies; None means the policies', else the budgets'.
        data_dir: folder of cached text and stored policies; None as for ``load_model``.
        on_progress: called with a message and the fraction done; None shows a bar on stderr.
        settings: fields of ``EvaluationConfig`` to change, as in ``texts=16``.
    Returns: the JSON that docs/formats.md describes, as a dict with the losses of every text.
    Raises: SolError for an evaluation that cannot run.
    """
    from sol_core.evaluation.config import PLAIN_BASELINES, EvaluationConfig
    from sol_core.evaluation.result import EvaluationResult
    from sol_core.evaluation.runner import evaluate as engine

    check_model(model)
    root = data_folder(data_dir)
    named = _in_order(methods_by_name(methods), spend_of, root)
    if taken := sorted(named.keys() & {*PLAIN_BASELINES, "random"}):
        raise ConfigError(f"no method can be called {taken[0]}: a baseline is; choose another name")
    chosen = EvaluationConfig() if config is None else config
    check_kind("config", chosen, EvaluationConfig, "an EvaluationConfig")
    chosen = with_settings(chosen, settings, corpus, root)
    events = engine(model, named, chosen, data_dir=root, grid=grid)
    finished = finished_work(events, on_progress)
    return EvaluationResult(finished.result, finished.per_text)


def tasks(
    model: LanguageModel,
    method: Policy | Schedule | str | Path | Mapping[str, Any],
    config: TasksConfig | None = None,
    *,
    grid: ActionGrid | None = None,
    data_dir: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compare a method's answers on downstream tasks with static's at equal spend.

    Args:
        model: as returned by ``load_model``.
        method: one method as for ``evaluate``; a dict gives it a name.
        config: tasks, questions, budgets; None means the command line's (hours).
        grid, data_dir, on_progress: as for ``evaluate``.
        settings: fields of ``TasksConfig`` to change, as in ``limit=100``.
    Returns: the JSON that docs/formats.md describes.
    Raises: SolError for a request that cannot run.
    """
    from sol_core.accuracy.config import TasksConfig
    from sol_core.accuracy.runner import run_tasks

    check_model(model)
    root = data_folder(data_dir)
    named = _in_order(methods_by_name(method), None, root)
    if len(named) != 1:
        raise ConfigError(f"tasks takes one method, got {len(named)}")
    chosen = TasksConfig() if config is None else config
    check_kind("config", chosen, TasksConfig, "a TasksConfig")
    chosen = changed(chosen, settings)
    ((name, given),) = named.items()
    events = run_tasks(model, name, given, chosen, data_dir=root, grid=grid)
    return finished_work(events, on_progress).result


def _in_order(methods: dict[str, Any], spend_of: str | None, root: Path) -> dict[str, Any]:
    """Put the method whose spend counts first, and look up policies given by name."""
    from sol_core.policy.files.locate import locate_policy

    if spend_of is not None:
        check_names([spend_of], methods, "there is no method")
        methods = {spend_of: methods[spend_of], **methods}
    return {
        name: locate_policy(given, root) if isinstance(given, (str, Path)) else given
        for name, given in methods.items()
    }
