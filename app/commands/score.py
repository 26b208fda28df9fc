"""``launch.py score CASES.json``: negative log-likelihoods under given schedules."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from app.case_files import read_case_file
from app.commands.options import add_model, load_model
from app.console import Console, write_out
from app.views import json_safe
from sol_core.actions import ActionGrid, QuantSite

if TYPE_CHECKING:
    from sol_core.scoring import ScoreCase

__all__ = ["HELP", "add_arguments", "run"]

HELP = "negative log-likelihoods of given tokens under given schedules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The case file, the quantisation site, the model."""
    parser.add_argument(
        "cases",
        metavar="CASES.json",
        type=Path,
        help='a list of cases, or an object with "cases": each with input_ids, context_len, '
        "page_size and schedules[n][t] = [keep_fraction, channel_keep_ratio, bit_width]; the "
        'result has the same frame, with {"nll": [[...]]} for each case, in order',
    )
    parser.add_argument(
        "--quant-site",
        choices=get_args(QuantSite),
        default=ActionGrid().quant_site,
        help="which MLP activations are quantised (default: %(default)s)",
    )
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON and nothing else")
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Score and print, in the file's order."""
    cases, in_object = args.case_file
    from sol_core.scoring import parse_case, score_case

    parsed = [parse_case(case, f"{args.cases}, case {n}") for n, case in enumerate(cases, 1)]
    model, _ = load_model(args, Console())
    scores = [{"nll": score_case(model, case, quant_site=args.quant_site)} for case in parsed]
    if args.json:
        result = json_safe({"cases": scores} if in_object else scores)
        write_out(json.dumps(result, allow_nan=False) + "\n")
    else:
        write_out(_table(parsed, scores))
    return 0


def _check(args: argparse.Namespace) -> None:
    args.case_file = read_case_file(args.cases)


def _table(cases: Sequence[ScoreCase], scores: Sequence[dict[str, list[list[float]]]]) -> str:
    import statistics

    lines = ["case  schedule  steps   keep  channels   bits   mean NLL (nats)"]
    for number, (case, score) in enumerate(zip(cases, scores, strict=True), 1):
        rows = zip(case.schedules, score["nll"], strict=True)
        for row, (schedule, losses) in enumerate(rows, 1):
            axes = zip(*(action.as_tuple() for action in schedule), strict=True)
            keep, channels, bits = (statistics.fmean(axis) for axis in axes)
            lines.append(
                f"{number:4}  {row:8}  {len(losses):5}  {keep:5.2f}  {channels:8.2f}  {bits:5.2f}"
                f"  {statistics.fmean(losses):16.4f}"
            )
    return "\n".join(lines) + "\n"
