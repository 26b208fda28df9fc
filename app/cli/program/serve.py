"""``launch.py [serve]``: the page, on this machine unless told otherwise."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import logging.handlers
import os
import signal
import sys
import threading
from types import FrameType

from app.cli import options as cli
from app.host.hosting import is_space
from app.host.interrupts import leave
from app.host.paths import DataDir
from sol_core.files.paths import DEVICE_VARIABLE

HELP = "open the page in the browser (what happens without a command)"
LOG_BYTES, LOG_FILES = 2_000_000, 3
_UNSTOPPABLE = ("model-loader", "kernel-warm-up")  # threads inside torch or a compiler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    host = "address to listen on (default: 127.0.0.1, this machine only)"
    port = "port to listen on, 0 for any free one (default: 7860, or the next free one)"
    cli.add_texts(parser, {"host": host})
    cli.add_texts(parser, {"port": port}, type=int)
    cli.add_flag(parser, "no-browser", "do not open a browser window")
    cli.add_model(parser)
    parser.set_defaults(is_answered=False)


def run(args: argparse.Namespace) -> int:
    data_dir = cli.open_data_dir(args)
    if args.device != "auto":
        os.environ[DEVICE_VARIABLE] = args.device  # for the worker too
    _log_to_file(data_dir)
    _end_as_from_ctrl_c()
    if is_space() and importlib.util.find_spec("spaces") is not None:
        importlib.import_module("spaces")  # ZeroGPU patches torch and must come before it
    from app.host.processes import hold_instance_lock

    with hold_instance_lock(data_dir.lock_file):
        from app.site.server import serve

        serve(
            data_dir,
            host=args.host,
            port=args.port,
            open_browser=not args.no_browser,
            model_name=cli.model_name(args),
            dtype=args.dtype,
        )
    # Threads of torch or a compiler cannot be stopped: end here and now while they work.
    if any(thread.name in _UNSTOPPABLE for thread in threading.enumerate()):
        logging.shutdown()
        leave(0)
    return 0


def _end_as_from_ctrl_c() -> None:
    """SIGTERM and a closed terminal's SIGHUP, unless ignored as under nohup, end the page."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def hang_up(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell sends another one
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in terminals:  # what is written there from now on would be an error
            os.dup2(nowhere, terminal)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGHUP, hang_up)


def _log_to_file(data_dir: DataDir) -> None:
    handler = logging.handlers.RotatingFileHandler(
        data_dir.logs / "serve.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
