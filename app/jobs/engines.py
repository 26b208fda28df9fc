"""The real job functions. The engine is imported when a job starts: an idle worker stays small."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.host.errors import AppError
from app.jobs.runner import JobFunctions, JobTask
from app.policies.library import PolicyLibrary
from sol_core.fields import from_json
from sol_core.progress import WorkEvent, WorkFinished, WorkStopped
from storage import TASKS_JOB

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

Updates = Generator[WorkEvent, None, None]
_PARTIAL_FOLDER = "partial"


def train_job(task: JobTask, *, allow_untrained: bool = False) -> Updates:
    """Train a policy, stored under the job's "name"; one no better than static only if allowed."""
    from sol_core.training.trainer import check_kept

    name = _param(task, "name", str)
    for event in _train_events(task):
        if isinstance(event, WorkFinished):
            library, summary = PolicyLibrary(task.data_dir), event.result["summary"]
            if not allow_untrained:
                check_kept(summary)
            stored = library.adopt(Path(event.result["folder"]), name, task.job.id)
            folder = str(library.folder / stored)
            event = WorkFinished({"policy": stored, "folder": folder, "summary": summary})
        yield event


def _train_events(task: JobTask) -> Updates:
    from sol_core.training.config import TrainConfig

    config = from_json(TrainConfig, _param(task, "config", dict))
    model = _load_model(task)
    if task.should_stop():
        yield WorkStopped()
        return
    from sol_core.evaluation.gains import trained_with_gains
    from sol_core.evaluation.measure_tables import measure_tables
    from sol_core.training.trainer import train

    root, stops = task.data_dir.root, task.should_stop
    for event in measure_tables(model, config.grid, root, stops):
        yield event
        if isinstance(event, WorkStopped):
            return
    task.say("Reading the text")
    training = train(model, config, task.folder, data_dir=root, should_stop=stops)
    yield from trained_with_gains(training, model, config, data_dir=root, should_stop=stops)


def evaluate_job(task: JobTask) -> Updates:
    """Measure "policies" against baselines; finished texts are kept in the job's folder."""
    from sol_core.evaluation.config import EvaluationConfig
    from sol_core.evaluation.runner import evaluate

    config = from_json(EvaluationConfig, _param(task, "config", dict))
    library = PolicyLibrary(task.data_dir)
    policies = {name: library.resolve(name) for name in _param(task, "policies", list)}
    model = _load_measured(task)
    yield from evaluate(model, policies, config, **_resumable(task))


def tasks_job(task: JobTask) -> Updates:
    """Measure a "policy"'s accuracy on tasks; finished batches are kept in the job's folder."""
    from sol_core.accuracy.config import TasksConfig
    from sol_core.accuracy.runner import run_tasks

    config = from_json(TasksConfig, _param(task, "config", dict))
    name = _param(task, "policy", str)
    folder = PolicyLibrary(task.data_dir).resolve(name)
    model = _load_measured(task)
    yield from run_tasks(model, name, folder, config, **_resumable(task))


ENGINES: JobFunctions = {"train": train_job, "evaluate": evaluate_job, TASKS_JOB: tasks_job}


def _resumable(task: JobTask) -> dict[str, Any]:
    """Options of a measurement that may be stopped and goes on from what its folder keeps."""
    partial = task.folder / _PARTIAL_FOLDER
    return {"data_dir": task.data_dir.root, "should_stop": task.should_stop, "partial": partial}


def _load_measured(task: JobTask) -> LanguageModel:
    from sol_core.evaluation.measure_tables import ensure_tables

    model = _load_model(task)
    ensure_tables(model, task.data_dir.root, lambda message, fraction: task.say(message))
    return model


def _load_model(task: JobTask) -> LanguageModel:
    from sol_core.generation.warm_up import load_warm

    return load_warm(
        _param(task, "model", str),
        data_dir=task.data_dir.root,
        dtype=str(task.job.params.get("dtype", task.dtype)),
        device=str(task.job.params.get("device", "auto")),
        on_progress=lambda message, fraction: task.say(message),
    )


def _param(task: JobTask, name: str, kind: type) -> Any:
    params: Mapping[str, Any] = task.job.params
    if not isinstance(params.get(name), kind):
        raise AppError(
            f"the job's parameter {name!r} must be of type {kind.__name__}, "
            f"got {params.get(name)!r}: start a new job"
        )
    return params[name]
