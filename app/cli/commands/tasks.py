"""``launch.py tasks POLICY``: accuracy on downstream tasks, against static at its spend."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.job_options import WorkEvents, add_policy, known_policy, measured_policy
from app.cli.options import add_json, add_model, print_result
from app.cli.reports.accuracy import tasks_table
from sol_core.actions import SHORT_AXES
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel
    from sol_core.tasks import TasksConfig

HELP = "measure a policy's accuracy on downstream tasks, against dense and static"
PARTIAL_FOLDER = "benchmarks"  # as releases before this name of the command called it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The policy, the tasks, how many questions, the budgets."""
    add_policy(parser)
    parser.add_argument(
        "--tasks",
        metavar="LIST",
        help="of arc_easy, hellaswag, piqa, winogrande, lambada, mmlu (default: these), "
        "agreement: 128 tokens written freely, against dense, and recall: facts hidden in long "
        "texts",
    )
    parser.add_argument(
        "--contexts",
        metavar="LIST",
        help="lengths of recall's texts in tokens, each with --limit questions "
        "(default: 1000,2000,4000,7500)",
    )
    parser.add_argument(
        "--lm-eval",
        metavar="LIST",
        help="instead: tasks of the package lm-eval, by name, as in arc_challenge,gsm8k",
    )
    parser.add_argument(
        "--include-path",
        metavar="FOLDER",
        help="with --lm-eval: also the tasks of your own in this folder, as YAML files",
    )
    parser.add_argument(
        "--limit", type=int, default=500, help="questions of each task (default: %(default)s)"
    )
    parser.add_argument(
        "--budgets",
        metavar="LIST",
        help=f'mean spends, "{",".join(SHORT_AXES)};…" (default: four, from mild to harsh), or '
        "shares of the full model's bytes, as in 50%%,65%%",
    )
    parser.add_argument(
        "--baselines",
        metavar="LIST",
        default="static",
        help="static, then paper (static with the paper's mechanisms at the same bytes) and "
        "averaged (the policy's levels averaged over a question's choices) (default: static)",
    )
    parser.add_argument(
        "--read-under-budget",
        action="store_true",
        help="step the question under the schedule too (default: read it densely)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which questions (default: 0)")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Measure and print. What an interrupted run had done is found by the next one like it."""
    result = _own(args) if args.lm_eval is None else _of_lm_eval(args)
    print_result(args, result, tasks_table(result))
    return 0


def _own(args: argparse.Namespace) -> dict[str, Any]:
    config = _config(args)

    def measure(model: LanguageModel, name: str, folder: Path, data_dir: Path) -> WorkEvents:
        from sol_core.tasks import run_tasks

        partial = data_dir / PARTIAL_FOLDER
        return run_tasks(model, name, folder, config, data_dir=data_dir, partial=partial)

    return measured_policy(args, config.budgets, measure)


def _of_lm_eval(args: argparse.Namespace) -> dict[str, Any]:
    from sol_core.evaluation import parse_budgets
    from sol_core.harness.lm_eval_tasks import LmEvalConfig, open_lm_eval_tasks, run_lm_eval_tasks

    names = tuple(name.strip() for name in args.lm_eval.split(",") if name.strip())
    config = LmEvalConfig(names, args.limit, seed=args.seed, include_path=args.include_path)
    if args.budgets is not None:
        config = replace(config, budgets=parse_budgets(args.budgets))
    known_policy(args, config.budgets)  # before lm-eval's long look at its tasks
    opened = open_lm_eval_tasks(config)

    def measure(model: LanguageModel, name: str, folder: Path, data_dir: Path) -> WorkEvents:
        return run_lm_eval_tasks(model, name, folder, opened)

    return measured_policy(args, config.budgets, measure)


def _check(args: argparse.Namespace) -> None:
    """Raises: ConfigError for options that say nothing about the tasks that were asked for."""
    if args.lm_eval is None:
        if args.include_path is not None:
            raise ConfigError("--include-path is about tasks of lm-eval: give --lm-eval LIST too")
        return
    for name, is_given in (
        ("--tasks", args.tasks is not None),
        ("--contexts", args.contexts is not None),
        ("--baselines", args.baselines != "static"),
        ("--read-under-budget", args.read_under_budget),
    ):
        if is_given:
            raise ConfigError(
                f"{name} is about the project's own tasks, --lm-eval asks lm-eval's: leave one out"
            )


def _config(args: argparse.Namespace) -> TasksConfig:
    """Raises: ConfigError naming what is not allowed."""
    from sol_core.evaluation import parse_budgets
    from sol_core.tasks import TasksConfig, parse_baselines, parse_contexts, parse_tasks

    options: dict[str, Any] = {
        "limit": args.limit,
        "seed": args.seed,
        "baselines": parse_baselines(args.baselines),
        "read_under_budget": args.read_under_budget,
    }
    if args.tasks is not None:
        options["tasks"] = parse_tasks(args.tasks)
    if args.contexts is not None:
        options["contexts"] = parse_contexts(args.contexts)
    if args.budgets is not None:
        options["budgets"] = parse_budgets(args.budgets)
    return TasksConfig(**options)
