"""Python calls of the Benchmark page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.pages.accuracy.form import config_of, values_of
from app.pages.accuracy.view import benchmark_view
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


def benchmark_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data: policies, whether jobs are allowed, the newest own benchmark."""
    home = job_page_home(services, request, "benchmark")
    return home | {"policies": policy_choices(services)}


def start_benchmark(services: Services, request: Request) -> dict[str, Any]:
    """Check everything, queue the job, answer with its id.

    Raises: JobsRefusedError, ConfigError; RequestError when this visitor has too many jobs.
    """
    owner = owner_of(request)
    check_jobs_allowed(services)
    policy = field(request, "policy", str)
    if policy not in services.policies.names():
        raise ConfigError(f"There is no policy {policy[:80]!r}. It may have been deleted.")
    config = config_of(field(request, "values", dict))
    check_room(services, owner)
    params = {
        "config": config.to_dict(),
        "policy": policy,
        "model": services.loader.status().name,
    }
    return {"job_id": services.store.jobs.create("benchmark", owner, policy, params).id}


def benchmark_result(services: Services, request: Request) -> dict[str, Any]:
    """Table and figures of a finished benchmark, and the result itself for saving."""
    record = visible_job(services, request)
    if record.kind != "benchmark" or record.result is None:
        raise RequestError("This job has no benchmark result. Choose a finished benchmark.")
    with naming_damage("This benchmark"):
        view = json_safe(benchmark_view(record.result))
    return {"view": view, "result": json_safe(record.result)}


def benchmark_settings(services: Services, request: Request) -> dict[str, Any]:
    """The form's values of a benchmark, to be used again.

    Raises: RequestError for a job of another kind, or settings of another release.
    """
    record = visible_job(services, request)
    try:
        values = values_of(dict(record.params["config"]))
    except (SolError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"The settings of this benchmark cannot be used here ({error}). It was made by "
            "another release."
        ) from error
    return {"values": values, "policy": record.params.get("policy")}


HANDLERS: dict[str, Handler] = {
    **JOB_HANDLERS,
    **{
        handler.__name__: handler
        for handler in (benchmark_home, start_benchmark, benchmark_result, benchmark_settings)
    },
}
