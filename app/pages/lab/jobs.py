"""The Lab's page, its forms, and Python calls of its jobs; ``LAB_JOBS`` says how they differ."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.formats import json_safe
from app.host.errors import AppError, naming_damage
from app.pages.lab.accuracy_view import TASKS, accuracy_view
from app.pages.lab.schema_form import SchemaForm
from app.pages.policies import PAGE as POLICIES
from app.pages.shared.corpus_choice import CORPUS_HANDLERS, corpus_choice, corpus_source
from app.pages.shared.job_calls import (
    JOB_HANDLERS,
    admitted_job,
    check_jobs_allowed,
    refusal,
    visible_job,
)
from app.policies.library import check_name
from app.policies.views import policy_choices
from app.results.figures import result_view
from app.results.files import csv_text
from app.results.shipped import SHIPPED, shipped_about, shipped_record
from app.sharing.kinds import file_stem
from app.web.calls import Page, Request, RequestError, by_name, choice, field, owner_of
from app.web.services import Services
from sol_core.accuracy.config import TasksConfig
from sol_core.actions import AXES, MLP_PRUNERS, PAGE_SCORERS
from sol_core.config import DEFAULT_POLICY
from sol_core.errors import ConfigError, SolError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.fields import from_json
from sol_core.policy.files.locate import NAME_LENGTH
from sol_core.training.config import NOMINAL_MINUTES, PRESETS, TrainConfig
from storage import TASKS_JOB, JobKind

MAX_WAITING = 100
MAX_POLICIES = 6
# Words of the forms where a dataclass has none of its own.
GRID_HELP = {
    **{axis.levels_field: axis.meaning for axis in AXES},
    "quant_site": "which side of the MLP is quantised; the output is what papers report",
    "page_scorer": "what pages are chosen by: "
    + ", or ".join(scorer.meaning for scorer in PAGE_SCORERS.values()),
    "page_choice": "who chooses pages: every query head, or the heads of a KV group together",
    "page_budget": "what a level of attention is: so many pages, where heads choose alone; or a "
    "mean that layers and steps divide as they need, where groups choose",
    "head": "how the vocabulary's weights are read: whole, or a 4-bit preview and then exactly "
    "those of the likely tokens",
    "quant_block": "channels that share a scale when bits are rounded: 0 for all of a token, as in "
    "the paper, or 32",
    "mlp_pruning": "which channels of the MLP are dropped: "
    + ", or ".join(pruner.meaning for pruner in MLP_PRUNERS.values()),
    "page_size": "cached tokens per page; pages are kept or left as a whole",
}
# CPU time on a Xeon: `evaluate default` 29 min, `tasks default --limit 50` 9 min, times ten.
_MINUTES = {**NOMINAL_MINUTES, "evaluate": 15, TASKS_JOB: 60}
_TAKES = {key: f"About {minutes:g} minutes on two CPU cores." for key, minutes in _MINUTES.items()}
PRESET_WORDS = {
    "quick": ("Quick", f"A first look, with a small policy. {_TAKES['quick']}"),
    "standard": (
        "Standard",
        "The default: warm start on many texts, then learning from rollouts (GRPO). "
        + _TAKES["standard"],
    ),
    "paper": (
        "Paper",
        "The authors' own recipe, for comparison: joint network, rollouts (GRPO) alone. "
        + _TAKES["paper"],
    ),
    "evaluate": ("Defaults", _TAKES["evaluate"]),
    TASKS_JOB: ("Defaults", _TAKES[TASKS_JOB]),
}
TRAIN_FORM = SchemaForm(
    TrainConfig,
    elsewhere=("corpus", "grid.mlp_split"),  # a picker's; measured, not chosen
    labels={
        "policy": "Policy network",
        "grpo": "Rollouts (GRPO)",
        "grid": "Action grid",
        "num_heads": "Heads",
        "quant_site": "Quantisation site",
        "quant_block": "Channels per scale",
        "head": "Vocabulary",
        **{axis.levels_field: f"{axis.name}: levels" for axis in AXES},
        "mlp_pruning": "MLP pruning",
        "held_out_texts": "Held-out texts",
        "time_limit_minutes": "Time limit (min)",
    },
    helps=GRID_HELP,
    choices={
        "page_scorer": {name: scorer.label for name, scorer in PAGE_SCORERS.items()},
        "mlp_pruning": {name: pruner.label for name, pruner in MLP_PRUNERS.items()},
        "reward": {"kl": "KL to the full model", "nll": "Log-likelihood"},
        "budget": {"price": "Price per axis", "penalty": "Squared gap"},
        "quant_site": {"mlp_output": "MLP output", "mlp_input": "MLP input"},
        "page_choice": {"head": "Every head", "group": "KV groups"},
        "page_budget": {"count": "So many pages", "need": "By need"},
    },
)
EVALUATE_FORM = SchemaForm(
    EvaluationConfig, elsewhere=("corpus",), labels={"windows": "Windows per text"}
)
TASKS_FORM = SchemaForm(
    TasksConfig,
    labels={"limit": "Questions"},
    choices={"tasks": {name: f"{label}: {meaning}" for name, (label, meaning) in TASKS.items()}},
)


@dataclass(frozen=True, slots=True)
class LabJob:
    """A kind of job as the Lab asks for it."""

    kind: JobKind
    name: str
    label: str
    form: SchemaForm[Any]
    most_policies: int = 0  # that one job measures; 0: it makes one and has its name
    has_corpus: bool = True  # it reads a text that the visitor chooses
    view: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # of a result to fetch

    def constants(self, services: Services) -> dict[str, Any]:
        """Constants from which the Lab draws this kind's form."""
        presets = dict[str, Any](PRESETS)
        if self.kind != "train":
            presets = {self.kind: self.form.config()}
        return {
            "kind": self.kind,
            "presets": [
                {
                    "key": key,
                    "values": self.form.values_of(config),
                    "label": label,
                    "meaning": words,
                    "minutes": NOMINAL_MINUTES.get(key),
                }
                for key, (label, words) in PRESET_WORDS.items()
                if (config := presets.get(key)) is not None
            ],
            "defaultPreset": "standard" if self.kind == "train" else self.kind,
            "groups": self.form.groups(),
            "hasCorpus": self.has_corpus,
            "mostPolicies": self.most_policies,
            "maxNameLength": NAME_LENGTH,
            "shipped": None if self.view is None else shipped_about(self.kind),
        }


LAB_JOBS: dict[str, LabJob] = {
    job.kind: job
    for job in (
        LabJob("train", "train", "Train", TRAIN_FORM),
        LabJob("evaluate", "evaluate", "Evaluate", EVALUATE_FORM, MAX_POLICIES, view=result_view),
        LabJob(
            TASKS_JOB, "accuracy", "Accuracy", TASKS_FORM, 1, has_corpus=False, view=accuracy_view
        ),
    )
}


def lab_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data of a view: what is allowed, the newest own job, policies and names."""
    owner = owner_of(request) if services.is_shared else None
    newest = services.store.jobs.list(owner=owner, kind=_asked_job(request).kind, limit=1)
    taken = _taken_names(services)
    return {
        "jobs_allowed": services.jobs_allowed,
        "refusal": refusal(services),
        "model": services.loader.status().name,
        "newest_job": newest[0].id if newest else None,
        "policies": policy_choices(services.policies),
        "suggested_name": _free_name(taken),
        "taken_names": sorted(taken),
    }


def start_job(services: Services, request: Request) -> dict[str, Any]:
    """Check everything, queue the job on the page's model, answer with its id."""
    owner, job, jobs = owner_of(request), _asked_job(request), services.store.jobs
    check_jobs_allowed(services)
    params: dict[str, Any]
    if not job.most_policies:
        title = _new_name(services, field(request, "name", str))
        params = {"name": title}
    else:
        names = checked_policies(
            field(request, "policies", list), services.policies.names(), job.most_policies
        )
        title = ", ".join(names)
        params = {"policies": names} if job.most_policies > 1 else {"policy": names[0]}
    others = {}
    if job.has_corpus:
        others["corpus"] = corpus_source(services, owner, field(request, "corpus", dict))
    config = job.form.config_of(field(request, "values", dict), **others)
    params = {"config": config.to_dict()} | params | {"model": services.loader.status().name}
    with admitted_job(services, owner) as address:
        return {"job_id": jobs.create(job.kind, owner, title, params, address=address).id}


def job_settings(services: Services, request: Request) -> dict[str, Any]:
    """A form's values of a job of its kind, to be used again. Raises: RequestError."""
    record, job = visible_job(services, request), _asked_job(request)
    try:
        if record.kind != job.kind:
            raise ConfigError("it is of another kind")
        config = from_json(job.form.config, dict(record.params["config"]))
        values = job.form.values_of(config)
    except (SolError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"The settings of this job cannot be used here ({error}). It was made by another "
            "release."
        ) from error
    params = record.params
    corpus = str(params["config"].get("corpus", "builtin"))
    return {
        "values": values,
        "corpus": corpus_choice(services, owner_of(request), corpus),
        "policies": params.get("policies") or [params.get("policy")],
        "name": str(params.get("name", "")),
    }


def job_result(services: Services, request: Request) -> dict[str, Any]:
    job = _asked_job(request)
    _, result = _finished(services, request, job)
    with naming_damage("This result"):
        return {"view": json_safe(job.view(result)) if job.view else None}


def export_result(services: Services, request: Request) -> dict[str, Any]:
    """A finished measurement as a file, "json" or of an evaluation "csv": its name and text."""
    form, job = field(request, "form", str), _asked_job(request)
    if form not in (("json", "csv") if job.kind == "evaluate" else ("json",)):
        raise RequestError("form must be json, or csv of an evaluation. Reload the page.")
    title, result = _finished(services, request, job)
    with naming_damage("This result"):
        text = (
            json.dumps(result, ensure_ascii=False, indent=1) if form == "json" else csv_text(result)
        )
    noun = "evaluation" if job.kind == "evaluate" else job.name
    return {"name": f"{file_stem(noun, title)}.{form}", "text": text}


def checked_policies(chosen: list[Any], known: list[str], most: int) -> list[str]:
    """The policies to measure, the one of the figures first. Raises: ConfigError."""
    if not chosen:
        raise ConfigError("Choose a policy to measure.")
    if len(chosen) > most:
        raise ConfigError(f"Choose at most {most}: {len(chosen)} policies are chosen.")
    for name in chosen:
        if name not in known:
            raise ConfigError(f"There is no policy {str(name)[:80]!r}. It may have been deleted.")
    return list(dict.fromkeys(chosen))


def _new_name(services: Services, name: str) -> str:
    """A name without surrounding space, which no policy and no waiting training has."""
    name, taken = name.strip(), _taken_names(services)
    check_name(name)
    if name.lower() in taken:
        raise AppError(
            f"The name {name!r} is in use by a policy or a training that has not ended. "
            f"{_free_name(taken)!r} is free."
        )
    return name


def _asked_job(request: Request) -> LabJob:
    kind = choice(request, "kind", LAB_JOBS)
    if kind is None:
        raise RequestError("kind must be that of a job. Reload the page.")
    return LAB_JOBS[kind]


def _finished(services: Services, request: Request, job: LabJob) -> tuple[str, dict[str, Any]]:
    """Title and result of the finished job that the request names, or of what ships."""
    if job.view is not None:
        if field(request, "job_id", str) == SHIPPED:
            return DEFAULT_POLICY, shipped_record(job.kind)["result"]
        record = visible_job(services, request)
        if record.kind == job.kind and record.result is not None:
            return record.title, record.result
    raise RequestError("This job has no result to show. Choose a finished one.")


def _taken_names(services: Services) -> set[str]:
    """Names of policies, and of trainings that will make one, in lower case as some disks have."""
    waiting = services.store.jobs.list(
        kind="train", statuses=("queued", "running", "paused"), limit=MAX_WAITING
    )
    names = [*services.policies.names(), *(record.title for record in waiting)]
    return {name.lower() for name in names}


def _free_name(taken: set[str]) -> str:
    names = (f"policy-{number}" for number in itertools.count(1))
    return next(name for name in names if name not in taken)


HANDLERS = (
    JOB_HANDLERS
    | CORPUS_HANDLERS
    | by_name(lab_home, start_job, job_settings, job_result, export_result)
)
VIEWS = [Page(job.name, job.label, HANDLERS, job.constants) for job in LAB_JOBS.values()]
VIEWS.append(POLICIES)
PAGE = Page(
    "lab",
    "Lab",
    {name: call for view in VIEWS for name, call in view.handlers.items()},
    lambda services: {view.name: view.constants(services) for view in VIEWS},
)
