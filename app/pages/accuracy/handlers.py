"""Python calls of the Accuracy page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.pages.accuracy.form import config_from_form, form_from_config
from app.pages.accuracy.view import accuracy_view
from app.pages.shared.job_calls import (
    JOB_HANDLERS,
    check_jobs_allowed,
    check_room,
    job_page_home,
    visible_job,
)
from app.pages.shared.policy_choices import policy_choices
from app.web.calls import Handler, Request, RequestError, field, owner_of
from app.web.services import Services
from sol_core.errors import ConfigError, SolError
from storage import TASKS_JOB


def accuracy_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data: policies, whether jobs are allowed, the newest own measurement."""
    home = job_page_home(services, request, TASKS_JOB)
    return home | {"policies": policy_choices(services)}


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
    check_room(services, owner)
    params = {
        "config": config.to_dict(),
        "policy": policy,
        "model": services.loader.status().name,
    }
    return {"job_id": services.store.jobs.create(TASKS_JOB, owner, policy, params).id}


def accuracy_result(services: Services, request: Request) -> dict[str, Any]:
    """Table and figures of a finished measurement, and the result itself for saving."""
    record = visible_job(services, request)
    if record.kind != TASKS_JOB or record.result is None:
        raise RequestError("This job has no accuracy to show. Choose a finished measurement.")
    with naming_damage("This measurement"):
        view = json_safe(accuracy_view(record.result))
    return {"view": view, "result": json_safe(record.result)}


def accuracy_settings(services: Services, request: Request) -> dict[str, Any]:
    """The form's values of a measurement, to be used again.

    Raises: RequestError for a job of another kind, or settings of another release.
    """
    record = visible_job(services, request)
    try:
        values = form_from_config(dict(record.params["config"]))
    except (SolError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"The settings of this measurement cannot be used here ({error}). It was made by "
            "another release."
        ) from error
    return {"values": values, "policy": record.params.get("policy")}


HANDLERS: dict[str, Handler] = {
    **JOB_HANDLERS,
    **{
        handler.__name__: handler
        for handler in (accuracy_home, start_accuracy, accuracy_result, accuracy_settings)
    },
}
