"""``launch.py test``: the test suite, in an environment that has the ``test`` extra."""

from __future__ import annotations

import argparse
import os
import sys

from app import environment
from app.bootstrap import PROJECT_ROOT, replace_process
from app.paths import DataDir

__all__ = ["HELP", "add_arguments", "run"]

HELP = "run the tests; other arguments go to pytest"
FAST = "not model and not browser and not slow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--fast``; everything unknown is pytest's."""
    parser.add_argument(
        "--fast", action="store_true", help=f"leave out what takes long: pytest -m '{FAST}'"
    )
    parser.set_defaults(extras=("test",), passes_rest_on=True)


def run(args: argparse.Namespace) -> int:
    """Become pytest, in the project's folder, with the libraries set up as for the page."""
    environment.prepare(DataDir.resolve(None).root)
    os.chdir(PROJECT_ROOT)
    selection = ["-m", FAST] if args.fast else []
    replace_process([sys.executable, "-m", "pytest", *selection, *args.rest])
