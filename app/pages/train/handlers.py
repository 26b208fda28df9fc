"""Python calls of the Train page. Each handler takes the services and one JSON object."""

from __future__ import annotations

import re
from typing import Any

from app.formats.plain_json import finite
from app.host.errors import AppError
from app.pages.shared.corpus_choice import CORPUS_HANDLERS, corpus_choice, corpus_source
from app.pages.shared.job_calls import (
    JOB_HANDLERS,
    check_jobs_allowed,
    job_page_home,
    queue_job,
    reusing_settings,
    visible_job,
)
from app.pages.train.estimate import estimate
from app.pages.train.form import config_from_form, form_from_config, form_groups
from app.web.calls import Request, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.policy.files.locate import DEFAULT_POLICY, NAME_LENGTH
from sol_core.training.config import PRESETS, TrainConfig

MAX_NAME_LENGTH = NAME_LENGTH
MAX_WAITING = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PolicyNameError(AppError, ValueError):
    """A name that no policy can have."""


def train_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data: whether jobs are allowed, a free name, the newest own job."""
    home = job_page_home(services, request, "train")
    taken = _taken_names(services)
    return home | {"suggested_name": _free_name(taken), "taken_names": sorted(taken)}


def estimate_training(services: Services, request: Request) -> dict[str, Any]:
    """Seconds and memory for the form's values, or what is wrong with them."""
    try:
        config = config_from_form(field(request, "values", dict), "builtin")
    except (ConfigError, TypeError) as error:
        return {"problem": str(error)}
    guess = estimate(config)
    return {
        "seconds": finite(guess.seconds),
        "memory_mb": finite(guess.memory_mb),
        "phases": [[name, finite(seconds)] for name, seconds in guess.phases.items()],
        "limited": guess.limited,
    }


def start_training(services: Services, request: Request) -> dict[str, Any]:
    """Check everything, queue the job, answer with its id.

    Raises: JobsRefusedError, PolicyNameError (also for a name in use), ConfigError,
        CorpusFileError; RequestError when
        this visitor has too many jobs waiting.
    """
    owner = owner_of(request)
    check_jobs_allowed(services)
    name = checked_name(field(request, "name", str))
    taken = _taken_names(services)
    if name.lower() in taken:
        raise PolicyNameError(
            f"The name {name!r} is in use by a policy or a training that has not ended. "
            f"{_free_name(taken)!r} is free."
        )
    corpus = corpus_source(services, owner, field(request, "corpus", dict))
    config = config_from_form(field(request, "values", dict), corpus)
    params = {"config": config.to_dict(), "name": name}
    return queue_job(services, owner, "train", name, params)


def job_settings(services: Services, request: Request) -> dict[str, Any]:
    """The form's values of a training job, to be used again.

    Raises: RequestError for a job of another kind, or settings of another release.
    """
    record = visible_job(services, request)
    with reusing_settings("this job"):
        if record.kind != "train":
            raise ConfigError("it is not a training")
        config = from_json(TrainConfig, dict(record.params["config"]))
    return {
        "values": form_from_config(config),
        "corpus": corpus_choice(services, owner_of(request), config.corpus),
        "name": str(record.params.get("name", "")),
    }


def checked_name(name: str) -> str:
    """A policy's name without surrounding space.

    Raises: PolicyNameError when no folder could bear it, or it is the shipped policy's.
    """
    name = name.strip()
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH or name.endswith("."):
        raise PolicyNameError(
            "A policy's name has letters, digits, dots, - and _, begins with a letter or digit and "
            f"is at most {MAX_NAME_LENGTH} long; got {name[:80]!r}."
        )
    if name.lower() == DEFAULT_POLICY:
        raise PolicyNameError(
            f"The name {DEFAULT_POLICY!r} belongs to the policy that came with the program. "
            "Choose another one."
        )
    return name


def _taken_names(services: Services) -> set[str]:
    """Names of policies, and of trainings that will make one, in lower case as some disks have."""
    waiting = services.store.jobs.list(
        kind="train", statuses=("queued", "running", "paused"), limit=MAX_WAITING
    )
    names = [*services.policies.names(), *(record.title for record in waiting)]
    return {name.lower() for name in names}


def _free_name(taken: set[str]) -> str:
    number = 1
    while f"policy-{number}" in taken:
        number += 1
    return f"policy-{number}"


HANDLERS = (
    JOB_HANDLERS
    | CORPUS_HANDLERS
    | by_name(train_home, estimate_training, start_training, job_settings)
)


_PRESET_WORDS = {
    "quick": ("Quick", "A first look: a small policy that already saves, in a few minutes."),
    "standard": (
        "Standard",
        "The default: warm start on many texts, then learning from rollouts (GRPO).",
    ),
    "share": (
        "Shares",
        "For budgets that are a share of the bytes: a small network that sees long texts.",
    ),
    "paper": (
        "Paper",
        "The authors' own recipe, for comparison: joint network, rollouts (GRPO) alone.",
    ),
}


def _constants(services: Services) -> dict[str, Any]:
    presets = [
        {
            "key": key,
            "label": _PRESET_WORDS.get(key, (key.capitalize(), ""))[0],
            "meaning": _PRESET_WORDS.get(key, ("", ""))[1],
            "values": form_from_config(config),
        }
        for key, config in PRESETS.items()
    ]
    return {
        "presets": presets,
        "defaultPreset": "standard",
        "groups": form_groups(),
        "maxNameLength": MAX_NAME_LENGTH,
    }


PAGE = Page("train", "Train", HANDLERS, _constants)
