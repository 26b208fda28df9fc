"""``launch.py jobs``: look at background jobs, and pause, resume, cancel or delete them."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from app.cli import options as cli
from app.cli.job_options import job_as_json, open_jobs, time_left
from app.cli.terminal import escape, record_text, table
from app.host.console import Console, write_out
from app.host.paths import DataDir
from sol_core.files.paths import program_name

if TYPE_CHECKING:
    from storage import JobRecord, Store

HELP = "list, show, pause, resume, cancel or delete background jobs"
ACTIONS = {
    "list": "the newest jobs",
    "show": "one job, with its newest metrics",
    "cancel": "end a job at its next step; its checkpoint is kept",
    "pause": "checkpoint a job and put it aside",
    "resume": "queue a paused, failed, cancelled or abandoned job again",
    "delete": "delete a job that does not run, with its checkpoints and log; its policy stays",
}
STORED_KINDS = {"tasks": "benchmark"}  # the database's word, where it is another one
KINDS = ("train", "evaluate", *STORED_KINDS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, action in cli.add_actions(parser, ACTIONS).items():
        if name == "list":
            choices, shown = (*KINDS, *STORED_KINDS.values()), f"{{{','.join(KINDS)}}}"
            text = "only jobs of this kind"
            action.add_argument("--kind", choices=choices, metavar=shown, help=text)
            cli.add_value(action, "limit", 50, "at most this many")
        else:
            action.add_argument("job", metavar="ID", help="the job's id, as list shows it")
        cli.add_data_dir(action)


def run(args: argparse.Namespace) -> int:
    with open_jobs(args) as (data_dir, store):
        from app.jobs.worker import reap
        from storage import DatabaseWriteError

        with suppress(DatabaseWriteError):  # of a disk that is full or read-only
            reap(store.jobs)  # so that nothing is called running whose worker died
        if args.action == "list":
            _print_list(args, store)
        else:
            _print_job(args, data_dir, store)
    return 0


def _print_list(args: argparse.Namespace, store: Store) -> None:
    jobs = store.jobs.list(kind=STORED_KINDS.get(args.kind, args.kind), limit=args.limit)
    head = ("ID", "kind", "status", "done", "left", "title")
    lines = table(head, map(_cells, jobs), "<<<>><") if jobs else ["There are no jobs."]
    record = {"jobs": [job_as_json(job) for job in jobs]}
    cli.print_result(args, record, "".join(f"{line}\n" for line in lines))


def _print_job(args: argparse.Namespace, data_dir: DataDir, store: Store) -> None:
    jobs = store.jobs
    job = jobs.get(args.job)
    if args.action == "delete":
        from app.jobs.runner import delete_job

        delete_job(jobs, data_dir, args.job)
        if args.json:
            cli.print_json({"deleted": job.id})
        else:
            Console().say(f"deleted {_kind(job)} job {job.id}")
        return
    if args.action != "show":
        act = {"cancel": jobs.request_cancel, "pause": jobs.request_pause, "resume": jobs.resume}
        job = act[args.action](args.job)
    latest: dict[str, Any] = {}
    for row in jobs.metrics(job.id):  # the newest value of each stays
        latest |= row.get("metrics") or {}
    if args.json:
        cli.print_json(job_as_json(job) | {"latest_metrics": latest})
    else:
        write_out(_details(job, latest))
        if job.status == "queued":
            Console().say(f"a running page continues it, or: {program_name()} worker")


def _cells(job: JobRecord) -> tuple[str, ...]:
    done, left = f"{job.progress:.0%}", time_left(job.eta_s)
    return job.id, _kind(job), _status(job), done, left, escape(job.title)


def _details(job: JobRecord, latest: dict[str, Any]) -> str:
    fields = {
        "job": job.id,
        "kind": _kind(job),
        "title": job.title,
        "status": _status(job),
        "done": f"{job.progress:.0%}",
        "doing": job.message,
        "left": time_left(job.eta_s),
        "error": job.error,
        "policy": (job.result or {}).get("policy"),
        "log": job.log_file,
        "created": job.created_at.astimezone().isoformat(timespec="seconds"),
    }
    return record_text({name: value for name, value in (fields | latest).items() if value})


def _kind(job: JobRecord) -> str:
    return next((kind for kind, word in STORED_KINDS.items() if word == job.kind), job.kind)


def _status(job: JobRecord) -> str:
    if job.status == "running" and job.control != "run":
        return "pausing" if job.control == "pause" else "cancelling"
    return job.status
