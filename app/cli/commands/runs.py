"""``launch.py runs list``: the saved runs, with the ids that ``export`` takes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from app.cli.job_options import open_jobs
from app.cli.options import add_data_dir, add_json, add_value, print_result
from app.cli.terminal import escape, table
from app.formats.plain_json import budget_text, iso, schedule_label

if TYPE_CHECKING:
    from storage import RunRecord

HELP = "list saved generations and inspections"
KINDS = ("generation", "inspection")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the one action and what it chooses by."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    text = "the newest runs"
    listing = actions.add_parser("list", help=text, description=text, allow_abbrev=False)
    listing.add_argument("--kind", choices=KINDS, help="only runs of this kind")
    listing.add_argument("--query", default="", metavar="TEXT", help="only prompts with this text")
    add_value(listing, "limit", 50, "at most this many", metavar="N")
    add_json(listing)
    add_data_dir(listing)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    with open_jobs(args) as (_, store):
        runs = store.runs.list(limit=args.limit, query=args.query, kind=args.kind)
    head = ("ID", "created", "tokens", "schedule and budget; prompt")
    lines = table(head, map(_cells, runs), "<<><") if runs else ["No run is saved."]
    text = "".join(f"{line}\n" for line in lines)
    print_result(args, {"runs": [_as_json(run) for run in runs]}, text)
    return 0


def _as_json(record: RunRecord) -> dict[str, Any]:
    names = ("id", "kind", "status", "title", "model", "num_tokens", "config")
    return {name: getattr(record, name) for name in names} | {"created": iso(record.created_at)}


def _cells(record: RunRecord) -> tuple[str, ...]:
    created = record.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    how = f"{schedule_label(record.schedule, record.config)}, {budget_text(record.config)}"
    return record.id, created, str(record.num_tokens), escape(f"{how}; {record.title}")
