"""What the pages work with, built once per process and handed to every tab."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from app.challenge_desk import ChallengeDesk
from app.database import open_database
from app.experiment_desk import ExperimentDesk
from app.generation_runs import GenerateFunction, GenerationRuns, InspectFunction
from app.lens_desk import LensDesk
from app.lesson_experiments import lesson_experiments
from app.model_loader import LoadFunction, ModelLoader
from app.paths import DataDir
from app.policy_library import PolicyLibrary
from storage import Store

__all__ = ["Services", "are_jobs_allowed", "build_services", "has_worker_place", "is_space"]

ZERO_GPU_VARIABLE = "SPACES_ZERO_GPU"  # set by Hugging Face on ZeroGPU Spaces
ALLOW_JOBS_VARIABLE = "SOL_ALLOW_JOBS"


@dataclass(frozen=True, slots=True)
class Services:
    """The long-lived objects behind the pages.

    Attributes:
        is_shared: many visitors use this server (a Space): each sees only their own history.
        jobs_allowed: whether visitors may start training and evaluation here.
    """

    store: Store
    loader: ModelLoader
    runs: GenerationRuns
    lens: LensDesk
    experiments: ExperimentDesk
    challenges: ChallengeDesk
    is_shared: bool
    data_dir: DataDir
    policies: PolicyLibrary
    jobs_allowed: bool

    def close(self) -> None:
        """Stop generations and experiments, save what there is, close the database."""
        self.experiments.close()
        self.runs.close()
        self.store.close()


def is_space() -> bool:
    """Whether this process serves a Hugging Face Space."""
    return bool(os.environ.get("SPACE_ID"))


def has_worker_place() -> bool:
    """Whether a background process can work here: on ZeroGPU only clicks get the GPU."""
    return not os.environ.get(ZERO_GPU_VARIABLE)


def are_jobs_allowed() -> bool:
    """Whether visitors may start jobs: not on a Space, unless its owner says so."""
    return has_worker_place() and (not is_space() or os.environ.get(ALLOW_JOBS_VARIABLE) == "1")


def build_services(
    data_dir: DataDir,
    model_name: str,
    load: LoadFunction,
    generate: GenerateFunction,
    inspect: InspectFunction | None = None,
) -> Services:
    """Open the database, close the books on runs that a dead process left, begin to load.

    Args:
        load, generate, inspect: the engine; tests hand in small stand-ins. The real one
            inspects where none is given.

    Raises: StorageError when the database cannot be used.
    """
    store = open_database(data_dir)
    store.runs.mark_interrupted()
    loader = ModelLoader(model_name, load)
    inspect = inspect or engine_inspect(data_dir)
    runs = GenerationRuns(store.runs, loader, generate, inspect=inspect)
    loader.start()
    policies = PolicyLibrary(data_dir)
    experiments = ExperimentDesk(runs, loader, lesson_experiments(policies))
    return Services(
        store=store,
        loader=loader,
        runs=runs,
        lens=LensDesk(runs, store.looks),
        experiments=experiments,
        challenges=ChallengeDesk(runs, store.challenges, policies),
        is_shared=is_space(),
        data_dir=data_dir,
        policies=policies,
        jobs_allowed=are_jobs_allowed(),
    )


def engine_load(data_dir: DataDir, model_name: str, dtype: str) -> LoadFunction:
    """The real engine's loader; torch is imported when it is called, not before."""

    def load(on_progress: Any) -> Any:
        from sol_core.warm_up import load_warm

        return load_warm(model_name, data_dir=data_dir.root, dtype=dtype, on_progress=on_progress)

    return load


def engine_generate(data_dir: DataDir) -> GenerateFunction:
    """The real engine's ``generate``; imported on its first use. Policies by their names."""
    library = PolicyLibrary(data_dir)

    def generate(model: Any, prompt: str, config: Any, should_stop: Any) -> Any:
        from sol_core.generation import generate as engine

        return engine(model, prompt, config, should_stop, library.resolve_name)

    return generate


def engine_inspect(data_dir: DataDir) -> InspectFunction:
    """The real engine's ``inspect_text``; imported on its first use. Policies by their names."""
    library = PolicyLibrary(data_dir)

    def inspect(model: Any, text: str, config: Any, should_stop: Any) -> Any:
        from sol_core.inspection.engine import inspect_text

        return inspect_text(model, text, config, should_stop, library.resolve_name)

    return inspect
