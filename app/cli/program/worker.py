"""``launch.py worker``: one more process that runs background jobs."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os

from app.cli import options as cli
from app.host.console import Console

HELP = "run background jobs (training, evaluation) until interrupted; the page has one already"
NICENESS = 5  # the page's own generation comes first on a busy machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "number format of the weights, where a job does not say (default: auto)"
    parser.add_argument("--dtype", choices=cli.DTYPES, default="auto", help=text)
    # Given by the page to its own worker: one per data directory, ends when it is not needed.
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    cli.add_data_dir(parser)
    parser.set_defaults(is_answered=False)


def run(args: argparse.Namespace) -> int:
    data_dir = cli.open_data_dir(args)
    from app import jobs
    from app.host.limits import UNLIMITED, Limits
    from app.jobs.worker import run_worker

    if args.supervised:
        logging.getLogger(jobs.__name__).setLevel(logging.INFO)
        with contextlib.suppress(OSError, AttributeError):  # Windows has no os.nice
            os.nice(NICENESS)
    else:
        Console().say(f"Waiting for jobs in {data_dir.root} (Ctrl+C ends it)")
    minutes = Limits.from_environment().job_minutes
    limit_s = math.inf if minutes == UNLIMITED else 60.0 * minutes
    options = {"dtype": args.dtype, "is_supervised": args.supervised, "time_limit_s": limit_s}
    return run_worker(data_dir, **options)
