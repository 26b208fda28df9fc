"""``launch.py import FILE``: bring back what ``export`` or ``generate --json`` wrote."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.cli import options as cli
from app.cli.input_files import read_file
from app.cli.job_options import open_jobs

HELP = "bring back what was exported as JSON"
OWNER = "command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a JSON file that export wrote")
    cli.add_json(parser)
    cli.add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    from app.sharing.kinds import MAX_DOCUMENT_BYTES, import_documents

    data = read_file(args.file, MAX_DOCUMENT_BYTES)
    with open_jobs(args, fills=True) as (_, store):
        made = import_documents(store, OWNER, data)
    records = [{"kind": kind, "id": new_id} for kind, new_id in made]
    lines = [f"imported as {kind} {new_id}; History lists it\n" for kind, new_id in made]
    cli.print_result(args, records if len(records) > 1 else records[0], "".join(lines))
    return 0
