"""Services of the pages, built once per process and handed to every tab."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from app.host.database import open_database
from app.host.hosting import is_public, is_zero_gpu
from app.host.limits import Limits
from app.host.paths import DataDir
from app.jobs.runner import delete_job
from app.lessons.experiment_queue import ExperimentQueue
from app.lessons.experiments import lesson_experiments
from app.model.compute import Compute, LoadFunction, ModelLoader
from app.policies.library import PolicyLibrary
from app.runs.generation_runs import EngineFunction, GenerationRuns
from app.runs.recorded_run import RunConfig
from app.runs.storage_cap import StorageCap
from sol_core.inspection.records import InspectionConfig
from storage import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The long-lived objects behind the pages."""

    store: Store
    loader: ModelLoader
    runs: GenerationRuns
    experiments: ExperimentQueue
    is_shared: bool  # strangers use this server: each sees only their own history
    data_dir: DataDir
    policies: PolicyLibrary
    jobs_allowed: bool  # never on ZeroGPU, which lends no GPU to a background process
    limits: Limits
    storage_cap: StorageCap  # keeps the saved runs within them

    def close(self) -> None:
        self.experiments.close()
        self.runs.close()
        self.store.close()


def build_services(
    data_dir: DataDir, model_name: str, load: LoadFunction, engine: EngineFunction
) -> Services:
    """Open the database, mark runs of dead processes as interrupted, begin to load."""
    limits, on_zero_gpu = Limits.from_environment(), is_zero_gpu()
    store = open_database(data_dir)
    store.runs.mark_interrupted()
    loader = ModelLoader(model_name, load, in_background=not on_zero_gpu)
    cap = StorageCap(store, limits, functools.partial(delete_job, store.jobs, data_dir))
    compute = Compute(loader)
    if on_zero_gpu:
        from app.model.zero_gpu import ZeroGpu

        # Imported first of all (``program/serve.py``); the package exists on Spaces only.
        gpu = importlib.import_module("spaces").GPU
        compute = ZeroGpu(loader, gpu, limits.gpu_seconds, limits.concurrent)
    runs = GenerationRuns(
        store.runs, loader, engine, compute=compute, limits=limits, on_tick=cap.enforce_now_and_then
    )
    loader.start()
    compute.prepare()
    policies = PolicyLibrary(data_dir)
    experiments = ExperimentQueue(runs, loader, lesson_experiments(policies))
    return Services(
        store=store,
        loader=loader,
        runs=runs,
        experiments=experiments,
        is_shared=is_public(),
        data_dir=data_dir,
        policies=policies,
        jobs_allowed=bool(limits.jobs) and not on_zero_gpu,
        limits=limits,
        storage_cap=cap,
    )


def engine_load(data_dir: DataDir, model_name: str, dtype: str) -> LoadFunction:
    """The real engine's loader; torch is imported when it is called, not before."""

    def load(on_progress: Any) -> Any:
        from sol_core.generation.warm_up import load_warm

        model = load_warm(model_name, data_dir=data_dir.root, dtype=dtype, on_progress=on_progress)
        model.prefixes.kept.limit = Limits.from_environment().prefix_mb * 1_000_000
        return model

    return load


def engine_run(data_dir: DataDir) -> EngineFunction:
    """The real engine for runs of both kinds, with policies by their names; it can be pickled."""
    return functools.partial(_run, data_dir)


def _run(data_dir: DataDir, model: Any, text: str, config: RunConfig, should_stop: Any) -> Any:
    from sol_core.generation.engine import generate
    from sol_core.inspection.engine import inspect_text

    run: Any = inspect_text if isinstance(config, InspectionConfig) else generate
    return run(model, text, config, should_stop, PolicyLibrary(data_dir).resolve_name)
