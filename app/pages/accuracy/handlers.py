"""Python calls of the Accuracy page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.pages.accuracy.form import DEFAULT_FORM, config_from_form, form_from_config
from app.pages.accuracy.view import TASKS, accuracy_view
from app.pages.shared.job_calls import (
    JOB_HANDLERS,
    check_jobs_allowed,
    finished_result,
    job_page_home,
    queue_job,
    reusing_settings,
    visible_job,
)
from app.policies.views import policy_choices
from app.results.shipped import shipped_about
from app.web.calls import Request, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services
from sol_core.errors import ConfigError
from storage import TASKS_JOB


def accuracy_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data: policies, whether jobs are allowed, the newest own measurement."""
    home = job_page_home(services, request, TASKS_JOB)
    return home | {"policies": policy_choices(services.policies)}


def start_accuracy(services: Services, request: Request) -> dict[str, Any]:
    """Check everything, queue the job, answer with its id.

    Raises: JobsRefusedError, ConfigError; RequestError when this visitor has too many jobs.
    """
    owner = owner_of(request)
    check_jobs_allowed(services)
    policy = field(request, "policy", str)
    if policy not in services.policies.names():
        raise ConfigError(f"There is no policy {policy[:80]!r}. It may have been deleted.")
    config = config_from_form(field(request, "values", dict))
    params = {"config": config.to_dict(), "policy": policy}
    return queue_job(services, owner, TASKS_JOB, policy, params)


def accuracy_result(services: Services, request: Request) -> dict[str, Any]:
    """Table and figures of a finished measurement, and the result itself for saving."""
    none = "This job has no accuracy to show. Choose a finished measurement."
    _, result = finished_result(services, request, TASKS_JOB, none)
    with naming_damage("This measurement"):
        return {"view": json_safe(accuracy_view(result)), "result": json_safe(result)}


def accuracy_settings(services: Services, request: Request) -> dict[str, Any]:
    """The form's values of a measurement, to be used again.

    Raises: RequestError for a job of another kind, or settings of another release.
    """
    record = visible_job(services, request)
    with reusing_settings("this measurement"):
        values = form_from_config(dict(record.params["config"]))
    return {"values": values, "policy": record.params.get("policy")}


HANDLERS = JOB_HANDLERS | by_name(accuracy_home, start_accuracy, accuracy_result, accuracy_settings)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM,
        "shipped": shipped_about(TASKS_JOB),
        "tasks": [
            {"name": name, "label": label, "meaning": meaning}
            for name, (label, meaning) in TASKS.items()
        ],
    }


PAGE = Page("accuracy", "Accuracy", HANDLERS, _constants)
