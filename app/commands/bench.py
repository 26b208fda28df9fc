"""``launch.py bench``: how fast decoding and batched rollouts are on this machine, measured."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.commands.options import add_model, model_name, open_data_dir
from app.console import Console, write_out
from app.paths import DataDir
from app.policy_library import SHIPPED_FOLDER
from app.views import json_safe

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "bench"
HELP = "measure the speed of decoding, or of batched rollouts, against what the machine allows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, on which model, for how long."""
    parser.add_argument(
        "what",
        choices=("decode", "rollout"),
        help="decode: one text, against transformers and the memory bandwidth; "
        "rollout: an update of the trainer, against the rate of matrix products",
    )
    parser.add_argument(
        "--context", type=int, default=256, help="prompt tokens before the first step (256)"
    )
    parser.add_argument(
        "--new-tokens", type=int, default=48, help="decode: tokens per round and contestant (48)"
    )
    parser.add_argument(
        "--rows", type=int, default=64, help="rollout: schedules decoded at once (64)"
    )
    parser.add_argument("--steps", type=int, default=16, help="rollout: decode steps (16)")
    parser.add_argument(
        "--group",
        type=int,
        default=16,
        help="rollout: schedules per window, which share its prefix (16)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure and print; takes a minute or two."""
    console = Console()
    data_dir = open_data_dir(args)
    console.say("measuring; leave the machine alone for a minute or two")
    measure = _decode if args.what == "decode" else _rollout
    result = json_safe(measure(args, data_dir, console))
    console.clear()
    if args.what == "rollout" and not args.json:
        write_out(_rollout_text(result))
        return 0
    indent = None if args.json else 2
    write_out(json.dumps(result, allow_nan=False, indent=indent) + "\n")
    return 0


def _decode(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from sol_core.benchmarks.decode import BenchOptions, bench_decode
    from sol_core.loading import DEFAULT_MODEL, locate_model

    folder = locate_model(model_name(args), data_dir.root, console.progress)
    # The shipped policy belongs to the default model.
    policy = SHIPPED_FOLDER if model_name(args) == DEFAULT_MODEL else None
    options = BenchOptions(folder, args.dtype, args.context, args.new_tokens, args.rounds, policy)
    return bench_decode(options, console.progress)


def _rollout(args: argparse.Namespace, data_dir: DataDir, console: Console) -> dict[str, Any]:
    from sol_core.benchmarks.rollout import RolloutOptions, bench_rollout
    from sol_core.loading import load_language_model

    options = RolloutOptions(args.context, args.rows, args.steps, args.group, args.rounds)
    model = load_language_model(
        model_name(args), data_dir=data_dir.root, dtype=args.dtype, on_progress=console.progress
    )
    return bench_rollout(model, options, console.progress)


def _rollout_text(result: dict[str, Any]) -> str:
    """The record as a few lines."""
    seconds = result["seconds"]
    lines = [
        f"{result['rows']} rows x {result['steps']} steps as the trainer runs them: one text of "
        f"{result['text_tokens']} tokens, prefilled once,",
        f"{result['windows']} windows after its first {result['context']}, "
        f"{result['group']} schedules each; {result['dtype']}, {result['threads']} threads",
        f"rollout          {result['decisions_per_s']:8.0f} decisions/s",
        f"  in all         {result['decisions_per_s_total']:8.0f} with prefill, policy, dense "
        "reference and update",
        f"compute floor    {result['floor_decisions_per_s']:8.0f} decisions/s "
        f"({result['gflop_per_decision']:.3f} GFLOP at {result['gemm_gflops']:.0f} GFLOP/s)",
        f"ratio to floor   {result['ratio_to_floor']:8.2f}",
        f"policy's share   {100 * result['policy_share']:8.1f} % of the decode steps it decides",
        "seconds          "
        + ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in seconds.items()),
    ]
    return "\n".join(lines) + "\n"
