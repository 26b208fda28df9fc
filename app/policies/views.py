"""Policies as the page and the command line show them, and their uses. No state here.

The training that made it, evaluations of it and runs under it know a policy by name, former ones
too; an older job means another policy of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.formats import finite, iso, verdict_record
from app.host.errors import DamagedError, naming_damage
from app.policies.library import PolicyLibrary, StoredPolicy
from app.results.figures import evaluation_verdict
from app.results.shipped import SHIPPED, shipped_record
from sol_core.reporting.verdict import training_verdict
from storage import TASKS_JOB, JobRecord, Store

MAX_JOBS = 1000  # looked through for those that name a policy


def policy_row(policy: StoredPolicy) -> dict[str, Any]:
    """Return a policy's row in a list. "measured": held-out numbers of its training, by name."""
    info = policy.info
    return {
        "name": policy.name,
        "is_shipped": policy.is_shipped,
        "added": policy.notes.added,
        "created": info.created,
        "model": info.model,
        "fingerprint": info.fingerprint,
        "network": info.config.network,
        "parameters": info.num_parameters,
        "quant_site": info.grid.quant_site,
        "page_size": info.grid.page_size,
        "measured": _measured(info.summary.get("held_out")),
    }


def policy_choices(library: PolicyLibrary) -> list[dict[str, Any]]:
    """Every policy that can be used, the shipped one first: name, model, date."""
    return [
        {
            "name": policy.name,
            "model": policy.info.model,
            "created": str(policy.info.created),
            "shipped": policy.is_shipped,
        }
        for policy in library.list_all()[0]
    ]


def headlines_of(jobs: Iterable[JobRecord], policy: StoredPolicy) -> list[dict[str, Any]]:
    """A line per readable finished evaluation of a policy, the one that ships with it last."""
    known, lines = policy.all_names, []
    for job in jobs:
        with suppress(DamagedError), naming_damage("This evaluation"):
            first = str(next(iter(job.params.get("policies", ())), ""))
            about = {"id": job.id, "title": job.title, "created_at": iso(job.created_at)}
            lines.append(_headline_of(about, job.result or {}, first in known))
    if policy.is_shipped:
        record = shipped_record("evaluate")
        about = {"id": SHIPPED, "title": policy.name, "created_at": record["made"]}
        lines.append(_headline_of(about, record["result"], True))
    return lines


def policy_verdict(
    policy: StoredPolicy, evaluations: Sequence[dict[str, Any]]
) -> dict[str, str] | None:
    """The verdict of the newest evaluation that compares it, else of its training."""
    verdicts = [line["verdict"] for line in evaluations if line["verdict"] is not None]
    held_out = _measured(policy.info.summary.get("held_out"))
    return verdicts[0] if verdicts else verdict_record(training_verdict(policy.name, held_out))


def _headline_of(
    about: dict[str, Any], result: dict[str, Any], compares_it: bool
) -> dict[str, Any]:
    """A finished evaluation, and its verdict against static, if it compares the policy."""
    # A result compares its first policy; others only have their own numbers in it.
    verdict = evaluation_verdict(result) if compares_it else None
    corpus, tokens = str(result.get("corpus", "")).rsplit("/", 1)[-1], result.get("scored_tokens")
    told = "no comparison with static for this policy" if verdict is None else str(verdict)
    counted = "" if tokens is None else f", {tokens:,} tokens"
    return about | {
        "corpus": corpus,
        "tokens": tokens,
        "verdict": verdict_record(verdict),
        "words": f"{corpus or 'text'}{counted}: {told}",
    }


def _measured(held_out: Any) -> dict[str, float]:
    if not isinstance(held_out, dict):
        return {}
    return {
        str(name): number
        for name, value in sorted(held_out.items())
        if (number := finite(value)) is not None
    }


@dataclass(frozen=True, slots=True)
class PolicyUses:
    """Everything that names a policy, jobs newest first; ``waiting`` ones have not ended."""

    training: JobRecord | None
    evaluations: list[JobRecord]
    accuracies: list[JobRecord]
    waiting: list[JobRecord]
    num_runs: int

    def sentence(self) -> str:
        parts = [
            _count(self.num_runs, "saved run"),
            _count(len(self.evaluations), "evaluation"),
            _count(len(self.accuracies), "accuracy measurement"),
            _count(len(self.waiting), "job that has not ended", "jobs that have not ended"),
        ]
        return ", ".join(part for part in parts if part) or "nothing"


def uses_of(
    store: Store, library: PolicyLibrary, policy: StoredPolicy, owner: str | None = None
) -> PolicyUses:
    """Look through the newest jobs and all runs, or only an owner's. Raises: StorageError."""
    in_use = set(library.names()) - {policy.name}
    jobs = store.jobs.list(owner=owner, limit=MAX_JOBS)
    done = [
        job
        for job in jobs
        if job.status == "succeeded"
        and any(policy.was_called(name, job.created_at) for name in _named(job))
    ]
    return PolicyUses(
        training=next((job for job in jobs if _made(job, policy)), None),
        evaluations=[job for job in done if job.kind == "evaluate"],
        accuracies=[job for job in done if job.kind == TASKS_JOB],
        # These look the name up when they start: what it means today counts.
        waiting=[
            job
            for job in jobs
            if not job.has_ended and _named(job) & (set(policy.all_names) - in_use)
        ],
        num_runs=sum(store.runs.count_naming(name, owner) for name in policy.all_names),
    )


def _named(job: JobRecord) -> set[str]:
    """The policies that an evaluation ("policies") or a run of the tasks ("policy") asks for."""
    several = job.params.get("policies")
    named = [*(several if isinstance(several, list) else ()), job.params.get("policy")]
    return {name for name in named if isinstance(name, str)}


def _made(job: JobRecord, policy: StoredPolicy) -> bool:
    name = str((job.result or {}).get("policy", ""))
    is_own = job.kind == "train" and not policy.is_shipped and not policy.notes.added
    return is_own and job.finished_at is not None and policy.was_called(name, job.finished_at)


def _count(number: int, word: str, words: str | None = None) -> str:
    if not number:
        return ""
    return f"{number:,} {word if number == 1 else words or word + 's'}"
