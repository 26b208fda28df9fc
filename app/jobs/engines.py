"""The real job functions. The engine is imported when a job starts: an idle worker stays small."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.host.errors import AppError
from app.host.interrupts import StopFlag, set_by_signals
from app.host.paths import DataDir
from app.jobs.runner import JobFunctions, JobTask
from app.policies.library import PolicyLibrary
from sol_core.errors import RankLostError, SolError
from sol_core.fields import from_json
from sol_core.progress import WorkEvent, WorkFinished, WorkStopped
from storage import TASKS_JOB, JobRecord

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel
    from sol_core.training.ranks import Ranks

Updates = Generator[WorkEvent, None, None]
_PARTIAL_FOLDER = "partial"


def train_job(
    task: JobTask,
    ranks: Ranks | None = None,
    *,
    allow_untrained: bool = False,
    labels: Path | None = None,
) -> Updates:
    """Train a policy, stored under the job's "name"; one no better than static only if allowed."""
    from sol_core.training.trainer import check_kept

    name = _param(task, "name", str)
    for event in train_events(task, ranks, labels):
        if isinstance(event, WorkFinished):
            library, summary = PolicyLibrary(task.data_dir), event.result["summary"]
            if not allow_untrained:
                check_kept(summary)
            stored = library.adopt(Path(event.result["folder"]), name, task.job.id)
            folder = str(library.folder / stored)
            event = WorkFinished({"policy": stored, "folder": folder, "summary": summary})
        yield event


def train_events(task: JobTask, ranks: Ranks | None = None, labels: Path | None = None) -> Updates:
    """The training of ``train_job``, as every rank goes through it; labels: as the engine's."""
    from sol_core.training.config import TrainConfig
    from sol_core.training.ranks import Ranks

    together = ranks or Ranks()
    config = from_json(TrainConfig, _param(task, "config", dict))
    model = together.each(lambda: _load_model(task, together.device))
    if together.any(task.should_stop()):
        yield WorkStopped()
        return
    from sol_core.evaluation.calibrating import measured_first
    from sol_core.evaluation.gains import trained_with_gains
    from sol_core.training.trainer import train

    root, stops = task.data_dir.root, task.should_stop
    for event in measured_first(model, config.grid, root, stops, keeps=together.is_lead):
        yield event
        if isinstance(event, WorkStopped):
            return
    task.say("Reading the text")
    training = train(
        model, config, task.folder, data_dir=root, should_stop=stops, ranks=together, labels=labels
    )
    if together.is_lead:
        training = trained_with_gains(training, model, config, data_dir=root, should_stop=stops)
    yield from training


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
    from sol_core.evaluation.calibrating import measure_once

    model = _load_model(task)
    measure_once(model, task.data_dir.root, lambda message, fraction: task.say(message))
    return model


def _load_model(task: JobTask, device: str = "auto") -> LanguageModel:
    """Load the job's model; device "auto" leaves that to the job."""
    from sol_core.generation.warm_up import load_warm

    return load_warm(
        _param(task, "model", str),
        data_dir=task.data_dir.root,
        dtype=str(task.job.params.get("dtype", task.dtype)),
        device=str(task.job.params.get("device", device)) if device == "auto" else device,
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


def follow_training(data_dir: DataDir, ranks: Ranks) -> Literal["succeeded", "failed", "paused"]:
    """Train along, dropping the events, until the lead's job ends; returns how."""
    logging.getLogger().setLevel(logging.ERROR)
    stop = StopFlag()
    try:
        nothing: Any = None  # only the lead reports
        job: JobRecord = ranks.lead(lambda: nothing)
        folder = data_dir.jobs / job.id
        # The lead's console shows what is being done.
        task = JobTask(job, folder, data_dir, "auto", stop.is_set, lambda message: None)
        with set_by_signals(stop):
            for event in train_events(task, ranks):
                if isinstance(event, WorkFinished):
                    return "succeeded"
    except RankLostError:
        raise
    except SolError:  # every rank has it, and the lead says it
        return "failed"
    return "paused"
