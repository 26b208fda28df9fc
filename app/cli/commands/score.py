"""``launch.py score CASES.json``: negative log-likelihoods under given schedules."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import options as cli
from app.cli.input_files import read_case_file
from app.cli.terminal import table
from app.host.console import Console
from sol_core.actions import AXIS_FIELDS, SHORT_AXES, Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.generation.scoring import ScoreCase

HELP = "negative log-likelihoods of given tokens under given schedules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cases",
        metavar="CASES.json",
        type=Path,
        help='a list of cases, or an object with "cases": each with input_ids, context_len, '
        f"page_size and schedules[n][t] = [{', '.join(AXIS_FIELDS)}], the first two a number or "
        "a list of one per layer; the result has the same frame, with "
        '{"nll": [[...]]} for each case, in order',
    )
    cli.add_mechanisms(parser)
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        help="let policy:NAME (a stored one's name, default, or a folder), or a schedule of your "
        "own, MODULE:NAME, choose the actions of as many steps as the case's schedules have, "
        "instead of them; the result also has actions",
    )
    for name, default in zip(SHORT_AXES, Budget().as_tuple(), strict=True):
        cli.add_value(parser, name, default, "", help="the policy's budget (%(default)g)")
    cli.add_model(parser)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    cases, in_object = args.case_file
    from sol_core.generation.scoring import parse_case, score_case

    parsed = [parse_case(case, f"{args.cases}, case {n}") for n, case in enumerate(cases, 1)]
    steps = {step for case in parsed for schedule in case.schedules for step in schedule}
    budgets = [args.asked, *(Budget(*step.as_tuple()) for step in steps)]
    model, _ = cli.load_model(args, Console(), budgets)
    if args.policy:
        from sol_core.generation.scoring import score_text

        find = cli.schedule_finder(args)
        schedule = ScheduleConfig("policy", args.asked, policy=args.policy)
        grid, results = cli.grid_from(args, [schedule], find), []
        for case in parsed:
            config = GenerationConfig(schedule, grid=replace(grid, page_size=case.page_size))
            tokens = case.input_ids[: case.context_len + case.num_steps + 1]
            results.append(score_text(model, tokens, case.context_len + 1, config, find))
        parsed = [
            replace(case, schedules=(made.actions,))
            for case, made in zip(parsed, results, strict=True)
        ]
        scores = [
            {"nll": [made.nll], "actions": [[action.values() for action in made.actions]]}
            for made in results
        ]
    else:
        how = cli.grid_from(args).mechanisms
        scores = [{"nll": score_case(model, case, how)} for case in parsed]
    from sol_core.models.provenance import made_on

    result = {"cases": scores, "made_on": made_on(model)} if in_object else scores
    cli.print_result(args, result, _table(parsed, scores))
    return 0


def check(args: argparse.Namespace) -> None:
    args.asked = Budget(*(getattr(args, name) for name in SHORT_AXES))
    args.policy = None
    if args.schedule is not None:
        args.policy = cli.schedule_from_option(args.schedule, args.asked).policy
        if args.policy is None:
            raise ConfigError(
                f"--schedule takes policy:NAME_OR_FOLDER or MODULE:NAME here, got "
                f"{args.schedule!r}: other schedules stand in the case file"
            )
    args.case_file = read_case_file(args.cases)


def _table(cases: Sequence[ScoreCase], scores: Sequence[dict[str, Any]]) -> str:
    import statistics

    head = ("case", "schedule", "steps", *SHORT_AXES, "mean NLL (nats)")
    rows = []
    for number, (case, score) in enumerate(zip(cases, scores, strict=True), 1):
        scored = zip(case.schedules, score["nll"], strict=True)
        for row, (schedule, losses) in enumerate(scored, 1):
            axes = zip(*(action.as_tuple() for action in schedule), strict=True)
            means = (f"{statistics.fmean(axis):.2f}" for axis in axes)
            nll = f"{statistics.fmean(losses):.4f}"
            rows.append((str(number), str(row), str(len(losses)), *means, nll))
    return "\n".join(table(head, rows, ">" * len(head))) + "\n"
