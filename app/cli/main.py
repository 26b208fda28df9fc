"""The command line: choose a command, make sure of the packages, run it, explain failures.

Standard library only at import; every command imports the engine when it runs. Exit status: 0 done,
1 failed, 2 bad arguments, 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import importlib
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import NoReturn

from app.host.console import Console
from app.host.errors import is_told
from app.host.hosting import is_checkout
from app.host.interrupts import EXIT_INTERRUPTED, Notice, answering, leave
from app.setup.bootstrap import ensure_environment
from sol_core import __version__
from sol_core.card_errors import card_error
from sol_core.errors import ConfigError
from sol_core.files.paths import program_name

EXIT_FAILED, EXIT_USAGE, EXIT_BROKEN_PIPE = 1, 2, 141
DEBUG_VARIABLE = "SOL_DEBUG"  # set it to see tracebacks
COMPLETION_VARIABLE = "_ARGCOMPLETE"  # the shell asks what could come next
TOP_OPTIONS = ("-h", "--help", "--version")  # others are those of serve
DEFAULT_COMMAND = "serve"
_HERE = __name__.rpartition(".")[0]
_OURS = (__name__.partition(".")[0], "sol_core")  # the same package in a wheel
COMMANDS = (  # modules of ``commands``, and of ``program``
    *("serve", "generate", "inspect", "lens", "score", "train", "evaluate", "tasks", "jobs"),
    *("runs", "worker", "export", "import", "policies", "bench", "doctor", "test"),
)
_OF_PROGRAM = ("serve", "worker", "doctor", "test")
FORMER_NAMES = {"benchmark": "tasks"}  # still taken, not listed
# New objects between two searches for cycles. The packages make a million that stay: with Python's
# own 700, a seventh of a start is such searches.
NEW_OBJECTS = 50_000


def main(argv: Sequence[str], *, owns_process: bool = False) -> int:
    """Run one command, which may end the process if it owns it; returns the exit status."""
    notice = Notice()
    gc.set_threshold(NEW_OBJECTS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its code
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(argv, notice)
    except KeyboardInterrupt:
        notice.tell()
        if owns_process:
            leave()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        message = _told(error)
        if message is None or os.environ.get(DEBUG_VARIABLE):
            raise
        Console().say(f"error: {' '.join(message.split())}")
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _run(argv: Sequence[str], notice: Notice) -> int:
    if COMPLETION_VARIABLE in os.environ:
        return _complete()
    args = parse(argv)
    args.check(args)
    ensure_environment(extras=args.extras, install=args.install)
    args.notice, args.typed = notice, f"{program_name()} {shlex.join(argv)}"
    notice.kept = f"nothing is kept; start again with: {args.typed}"
    with answering(notice) if args.is_answered else nullcontext():
        return int(args.run(args))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The chosen command's arguments; leaves the program on ``--help`` and on bad arguments."""
    arguments = list(argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in TOP_OPTIONS):
        arguments.insert(0, DEFAULT_COMMAND)
    arguments[0] = FORMER_NAMES.get(arguments[0], arguments[0])
    # Only the chosen command is imported: a start from a bare Python does this twice.
    parser = _build_parser([arguments[0]] if arguments[0] in COMMANDS else COMMANDS)
    args, rest = parser.parse_known_args(arguments)
    if rest and not args.passes_rest_on:
        known = re.findall(r"--[\w-]+", args.usage())
        close = difflib.get_close_matches(rest[0].partition("=")[0], known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        parser.error(f"unknown argument {rest[0]!r}{hint} (see --help)")
    args.rest = rest
    return args


def _complete() -> int:
    """Answer the shell; without the packages there is no answer, nothing is installed for one."""
    ensure_environment(install=False)
    with suppress(ModuleNotFoundError):
        import argcomplete

        argcomplete.autocomplete(_build_parser(COMMANDS))  # leaves the program
    return EXIT_FAILED


class _Parser(argparse.ArgumentParser):
    """Parser that writes one line for a usage error, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {' '.join(message.split())}\n")


def _build_parser(names: Iterable[str]) -> argparse.ArgumentParser:
    name = program_name().removeprefix("python ")
    parser = _Parser(
        prog=name,
        description="See and steer where a language model spends its compute, token by token.",
        epilog=f"Without a command the page is served: {name} takes the options of serve.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for name in names:
        folder = "program" if name in _OF_PROGRAM else "commands"
        command = importlib.import_module(f"{_HERE}.{folder}.{name}")
        sub = commands.add_parser(
            name, help=command.HELP, description=command.HELP, allow_abbrev=False
        )
        sub.set_defaults(
            run=command.run,
            check=getattr(command, "check", lambda args: None),
            extras=(),
            install=True,
            usage=sub.format_usage,
            passes_rest_on=False,
            is_answered=True,  # on Ctrl+C, see app/host/interrupts.py
        )
        command.add_arguments(sub)
    return parser


def _told(error: Exception) -> str | None:
    """An error in the user's words; None for a bug, which is shown as it is."""
    if is_told(error):
        return str(error)
    if isinstance(error, RuntimeError):
        card = card_error(error)
        return None if card is None else str(card)
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if not missing or missing.partition(".")[0] in _OURS:
        return None
    remedy = (
        "delete that folder if it is this project's .venv, and start again"
        if is_checkout()
        else "install the page and the commands with: pip install 'sol-explorer[app]'"
    )
    return f"the package {missing} is missing from {sys.prefix}: {remedy}"
