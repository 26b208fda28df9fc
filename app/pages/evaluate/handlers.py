"""Python calls of the Evaluate page. Each handler takes the services and one JSON object."""

from __future__ import annotations

import re
from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.pages.evaluate.form import (
    DEFAULT_FORM,
    checked_policies,
    config_from_form,
    form_from_config,
)
from app.pages.shared.corpus_choice import CORPUS_HANDLERS, corpus_choice, corpus_source
from app.pages.shared.job_calls import (
    JOB_HANDLERS,
    check_jobs_allowed,
    finished_result,
    job_page_home,
    queue_job,
    reusing_settings,
    visible_job,
)
from app.pages.train.estimate import DECISIONS_PER_S, PREFILL_TOKENS_PER_S, START_S
from app.policies.views import policy_choices
from app.results.figures import result_view
from app.results.files import csv_text, json_text
from app.results.shipped import shipped_about
from app.web.calls import Request, RequestError, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services


def evaluate_home(services: Services, request: Request) -> dict[str, Any]:
    """Return the start data: policies, whether jobs are allowed, the newest own evaluation."""
    home = job_page_home(services, request, "evaluate")
    return home | {"policies": policy_choices(services.policies)}


def start_evaluation(services: Services, request: Request) -> dict[str, Any]:
    """Check everything, queue the job, answer with its id.

    Raises: JobsRefusedError, ConfigError, CorpusFileError; RequestError when this visitor has
        too many jobs waiting.
    """
    owner = owner_of(request)
    check_jobs_allowed(services)
    policies = checked_policies(field(request, "policies", list), services.policies.names())
    corpus = corpus_source(services, owner, field(request, "corpus", dict))
    config = config_from_form(field(request, "values", dict), corpus)
    params = {"config": config.to_dict(), "policies": policies}
    return queue_job(services, owner, "evaluate", ", ".join(policies), params)


def evaluation_result(services: Services, request: Request) -> dict[str, Any]:
    """Figures and table of a finished evaluation."""
    with naming_damage("This evaluation"):
        return {"view": json_safe(result_view(_finished(services, request)[1]))}


def export_evaluation(services: Services, request: Request) -> dict[str, Any]:
    """A file's name and text, as "json" or "csv"."""
    form = field(request, "form", str)
    if form not in ("json", "csv"):
        raise RequestError("form must be json or csv. Reload the page.")
    title, result = _finished(services, request)
    with naming_damage("This evaluation"):
        text = json_text(result) if form == "json" else csv_text(result)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-.")[:60] or "evaluation"
    return {"name": f"evaluation-{stem}.{form}", "text": text}


def evaluation_settings(services: Services, request: Request) -> dict[str, Any]:
    """The form's values of an evaluation, to be used again.

    Raises: RequestError for a job of another kind, or settings of another release.
    """
    record = visible_job(services, request)
    with reusing_settings("this evaluation"):
        config = dict(record.params["config"])
        values = form_from_config(config)
        corpus = corpus_choice(services, owner_of(request), str(config["corpus"]))
    return {"values": values, "corpus": corpus, "policies": record.params.get("policies", [])}


def _finished(services: Services, request: Request) -> tuple[str, dict[str, Any]]:
    none = "This job has no evaluation result. Choose a finished evaluation."
    return finished_result(services, request, "evaluate", none)


HANDLERS = (
    JOB_HANDLERS
    | CORPUS_HANDLERS
    | by_name(
        evaluate_home,
        start_evaluation,
        evaluation_result,
        export_evaluation,
        evaluation_settings,
    )
)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM,
        "shipped": shipped_about("evaluate"),
        "paces": {
            "decisions": DECISIONS_PER_S,
            "prefillTokens": PREFILL_TOKENS_PER_S,
            "start": START_S,
        },
    }


PAGE = Page("evaluate", "Evaluate", HANDLERS, _constants)
