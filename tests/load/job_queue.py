"""Jobs of several owners, queued at once as the Evaluate page queues them, and their order."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from storage import JobRecord
from tests.load.page_client import PageClient, RefusedError

LOOK_S = 0.5
SAME_MOMENT = timedelta(seconds=0.1)
# The least that an evaluation may be: one budget, two texts, four steps.
SMALLEST = {"budgets": "0.5,0.6,8", "baselines": "static", "texts": 2, "windows": 1, "steps": 4}


def queue_jobs(
    clients: Sequence[PageClient], count: int, corpus: Mapping[str, str]
) -> list[tuple[PageClient, str]]:
    """Queue ``count`` jobs, the first client's first; returns each with who owns it."""
    values = {**SMALLEST, "context": 32}
    made = []
    for number in range(count):
        client = clients[number * len(clients) // count]  # one owner's all before the next one's
        request = {"policies": ["default"], "values": values, "corpus": dict(corpus)}
        answer = client.ask("lab", "start_job", kind="evaluate", **request)
        made.append((client, str(answer["job_id"])))
    return made


def wait_for_jobs(made: Sequence[tuple[PageClient, str]], seconds: float) -> None:
    """Poll as the page does until every job has ended. Raises: RefusedError after ``seconds``."""
    gives_up_at = time.monotonic() + seconds
    waiting = list(made)
    while waiting:
        if time.monotonic() > gives_up_at:
            raise RefusedError(f"{len(waiting)} jobs did not end in {seconds:.0f} s")
        time.sleep(LOOK_S)
        waiting = [(client, job_id) for client, job_id in waiting if _is_live(client, job_id)]


def job_problems(jobs: Sequence[JobRecord], num_workers: int) -> list[str]:
    """A sentence for every job that failed or began out of turn.

    An owner's jobs begin in the order of the queue, but for claims at the same moment. While an
    owner has jobs waiting, nobody else begins more than ``num_workers`` between two of theirs.
    """
    found = [
        f"job {job.id} ended as {job.status}: {job.error}"
        for job in jobs
        if job.status != "succeeded"
    ]
    begun = sorted((job for job in jobs if job.started_at), key=lambda job: job.started_at)  # type: ignore[arg-type, return-value]  # not None, as just asked
    for owner in dict.fromkeys(job.owner for job in jobs):
        places = [place for place, job in enumerate(begun) if job.owner == owner]
        theirs = [begun[place] for place in places]
        if any(_is_overtaken(one, two) for one, two in itertools.combinations(theirs, 2)):
            order = [job.seq for job in theirs]
            found.append(f"owner {owner}: jobs began in the order {order}")
        for earlier, later in itertools.pairwise(places):
            waits_since = begun[later].created_at
            between = [
                job.owner
                for job in begun[earlier + 1 : later]
                if job.started_at and job.started_at >= waits_since
            ]
            most = max(map(between.count, between), default=0)
            if most > num_workers:
                found.append(f"owner {owner}: passed {most} times after place {earlier}")
    return found


def _is_overtaken(first: JobRecord, second: JobRecord) -> bool:
    """Whether the one that began second was queued before, and began not at the same moment."""
    assert first.started_at is not None
    assert second.started_at is not None
    return second.seq < first.seq and second.started_at - first.started_at > SAME_MOMENT


def _is_live(client: PageClient, job_id: str) -> bool:
    view = client.ask("lab", "poll_job", job_id=job_id, cursor=-1, sample_step=None)
    return bool(view["job"]["live"])
