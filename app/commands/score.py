"""``launch.py score CASES.json``: negative log-likelihoods under given schedules."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from app.case_files import read_case_file
from app.commands.options import add_model, load_model, open_data_dir
from app.console import Console, write_out
from app.policy_library import PolicyLibrary
from app.schedule_option import schedule_from_option
from app.views import json_safe
from sol_core.actions import ActionGrid, Budget, QuantSite
from sol_core.errors import ConfigError

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
    parser.add_argument(
        "--schedule",
        metavar="policy:NAME",
        help="let a policy (a stored one's name, default, or a folder) choose the actions of as "
        "many steps as the case's schedules have, instead of them; the result also has actions",
    )
    for name, kind in (("keep", float), ("channels", float), ("bits", float)):
        default = dict(zip(("keep", "channels", "bits"), Budget().as_tuple(), strict=True))[name]
        parser.add_argument(
            f"--{name}", type=kind, default=default, help="the policy's budget (%(default)g)"
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
    if args.policy:
        from sol_core.policy import load_policy
        from sol_core.scoring import score_policy

        folder = PolicyLibrary(open_data_dir(args)).resolve(args.policy)
        policy = load_policy(folder, model, grid=ActionGrid(quant_site=args.quant_site))
        results = [score_policy(model, case, policy, args.budget) for case in parsed]
        parsed = [
            replace(case, schedules=(result.actions,))
            for case, result in zip(parsed, results, strict=True)
        ]
        scores = [result.to_dict() for result in results]
    else:
        scores = [{"nll": score_case(model, case, quant_site=args.quant_site)} for case in parsed]
    if args.json:
        result = json_safe({"cases": scores} if in_object else scores)
        write_out(json.dumps(result, allow_nan=False) + "\n")
    else:
        write_out(_table(parsed, scores))
    return 0


def _check(args: argparse.Namespace) -> None:
    args.budget = Budget(args.keep, args.channels, args.bits)
    args.policy = None
    if args.schedule is not None:
        args.policy = schedule_from_option(args.schedule, args.budget).policy
        if args.policy is None:
            raise ConfigError(
                f"--schedule takes policy:NAME_OR_FOLDER here, got {args.schedule!r}: other "
                "schedules stand in the case file"
            )
    args.case_file = read_case_file(args.cases)


def _table(cases: Sequence[ScoreCase], scores: Sequence[dict[str, Any]]) -> str:
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
