"""``launch.py export THING``: what was saved as one HTML page, as JSON or as CSV."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import options as cli
from app.cli.job_options import open_jobs
from app.host.console import Console, write_file, write_out
from app.host.errors import AppError, InputFileError, system_errors

if TYPE_CHECKING:
    from storage import Store

HELP = "write a saved run as HTML page, JSON or CSV, or a comparison of two as HTML page"
FORMS = ("html", "json", "csv")
NEWEST_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "thing",
        metavar="RUN",
        help="id of a generation or an inspection as runs list shows it, or two ids of "
        "generations with a comma (ID1,ID2) to compare them (html)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help='file to write; "-" is stdout')
    parser.add_argument(
        "--format",
        dest="form",
        choices=FORMS,
        help="html is a page to look at offline, json can be imported, csv is for spreadsheets "
        "(default: by OUT's ending)",
    )
    cli.add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    with open_jobs(args) as (_, store):
        from app.sharing.kinds import export, kind_of
        from storage import NotFoundError

        try:
            made = export(store, kind_of(store, args.thing), args.thing, args.form)
        except NotFoundError as error:
            raise AppError(f"no run {args.thing!r}: {_newest(store)}") from error
    if str(args.out) == "-":
        write_out(made.text)
        return 0
    data = made.text.encode("utf-8")
    with system_errors(f"cannot write {args.out}"):
        write_file(args.out, data)
    Console().say(f"wrote {args.out} ({len(data) / 1000:,.0f} kB)")
    return 0


def check(args: argparse.Namespace) -> None:
    if args.form is None:
        args.form = args.out.suffix.removeprefix(".").lower()
        if args.form not in FORMS:
            raise InputFileError(
                f"cannot tell the form from {str(args.out)!r}: give --format {', '.join(FORMS)}"
            )
    if args.out.is_dir():
        raise InputFileError(f"{args.out} is a folder: name a file")


def _newest(store: Store) -> str:
    newest = store.runs.list(limit=NEWEST_SHOWN)
    if not newest:
        return "none is saved yet; the page saves every run that it makes"
    return "the newest are " + ", ".join(f"{run.id} ({run.title[:30]})" for run in newest)
