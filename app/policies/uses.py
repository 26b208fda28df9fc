"""Uses of a policy: the training that made it, evaluations of it, runs under it.

They know it by name, former ones too; an older job means another policy of that name.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.policies.library import PolicyLibrary, StoredPolicy
from storage import TASKS_JOB, JobRecord, Store

MAX_JOBS = 1000


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
