"""``launch.py [serve]``: the page, on this machine unless told otherwise."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import logging.handlers
import os
import signal
import sys
import threading

from app.cli.options import add_model, model_name, open_data_dir
from app.host.errors import AppError
from app.host.hosting import is_space
from app.host.paths import DataDir

__all__ = ["HELP", "add_arguments", "run"]

HELP = "open the page in the browser (what happens without a command)"
MAX_PORT = 65_535
LOG_BYTES, LOG_FILES = 2_000_000, 3
_UNSTOPPABLE = ("model-loader", "kernel-warm-up")  # threads inside torch or a compiler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: address, model, data directory."""
    parser.add_argument(
        "--host", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        help="port to listen on, 0 for any free one (default: 7860, or the next free one)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    data_dir = open_data_dir(args)
    _log_to_file(data_dir)
    # Stopped by a service manager: leave as from Ctrl-C, with runs saved and files closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if is_space():
        _import_spaces()
    from app.host.instance_lock import hold_instance_lock

    with hold_instance_lock(data_dir.lock_file):
        from app.site.server import serve
        from storage import StorageError

        try:
            serve(
                data_dir,
                host=args.host,
                port=args.port,
                open_browser=not args.no_browser,
                model_name=model_name(args),
                dtype=args.dtype,
            )
        except StorageError as error:
            raise AppError(str(error)) from error
    _leave_compilers_behind()
    return 0


def _leave_compilers_behind() -> None:
    """End here and now while the model is being loaded or kernels are being compiled.

    Such a thread cannot be stopped; when the interpreter ends around it, the process aborts.
    Everything of ours is saved and closed by now.
    """
    if not any(thread.name in _UNSTOPPABLE for thread in threading.enumerate()):
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _log_to_file(data_dir: DataDir) -> None:
    handler = logging.handlers.RotatingFileHandler(
        data_dir.logs / "serve.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _import_spaces() -> None:
    """ZeroGPU patches torch and must come before it; the package exists on Spaces only."""
    if importlib.util.find_spec("spaces") is not None:
        importlib.import_module("spaces")


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}, got {text!r}")
    return port
