"""``launch.py runs list``: the saved runs, with the ids that ``export`` takes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli import options as cli
from app.cli.job_options import open_jobs
from app.cli.terminal import escape, table
from app.formats import budget_text, iso, schedule_label
from app.host.errors import DamagedError, naming_damage

if TYPE_CHECKING:
    from storage import RunRecord

HELP = "list saved generations and inspections"
KINDS = ("generation", "inspection")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listing = cli.add_actions(parser, {"list": "the newest runs"})["list"]
    listing.add_argument("--kind", choices=KINDS, help="only runs of this kind")
    listing.add_argument("--query", default="", metavar="TEXT", help="only prompts with this text")
    cli.add_value(listing, "limit N", 50, "at most this many")
    cli.add_data_dir(listing)


def run(args: argparse.Namespace) -> int:
    with open_jobs(args) as (_, store):
        runs = store.runs.list(limit=args.limit, query=args.query, kind=args.kind)
    head = ("ID", "created", "tokens", "schedule and budget; prompt")
    lines = table(head, map(_cells, runs), "<<><") if runs else ["No run is saved."]
    names = ("id", "kind", "status", "title", "model", "num_tokens", "config")
    records = [
        {name: getattr(run, name) for name in names} | {"created": iso(run.created_at)}
        for run in runs
    ]
    cli.print_result(args, {"runs": records}, "".join(f"{line}\n" for line in lines))
    return 0


def _cells(record: RunRecord) -> tuple[str, ...]:
    created = record.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    try:
        with naming_damage("This run"):
            how = f"{schedule_label(record.schedule, record.config)}, {budget_text(record.config)}"
    except DamagedError:
        how = "damaged"
    return record.id, created, str(record.num_tokens), escape(f"{how}; {record.title}")
