"""``launch.py bench decode``: how fast decoding is on this machine, measured."""

from __future__ import annotations

import argparse
import json

from app.commands.options import add_model, model_name, open_data_dir
from app.console import Console, write_out
from app.views import json_safe

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "bench"
HELP = "measure the speed of decoding against transformers and the memory bandwidth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, on which model, for how long."""
    parser.add_argument("what", choices=("decode",), help="what to measure")
    parser.add_argument(
        "--context", type=int, default=256, help="prompt tokens before the first step (256)"
    )
    parser.add_argument(
        "--new-tokens", type=int, default=48, help="tokens per round and contestant (48)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure and print; takes a minute or two."""
    console = Console()
    data_dir = open_data_dir(args)
    from sol_core.benchmarks.decode import BenchOptions, bench_decode
    from sol_core.loading import locate_model

    console.say("measuring; leave the machine alone for a minute or two")
    folder = locate_model(model_name(args), data_dir.root, console.progress)
    options = BenchOptions(folder, args.dtype, args.context, args.new_tokens, args.rounds)
    result = json_safe(bench_decode(options, console.progress))
    console.clear()
    indent = None if args.json else 2
    write_out(json.dumps(result, allow_nan=False, indent=indent) + "\n")
    return 0
