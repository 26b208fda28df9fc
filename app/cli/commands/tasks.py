"""``launch.py tasks POLICY``: accuracy on downstream tasks, against static at its spend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from app.cli import options as cli
from app.cli.job_options import (
    PARTIAL_FOLDER,
    add_policy,
    chosen_grid,
    policy_on_model,
    shown_result,
)
from app.cli.terminal import table
from app.results.figures import budget_label
from sol_core.accuracy.config import TasksConfig
from sol_core.actions import SHORT_AXES
from sol_core.evaluation.config import parse_budgets, parse_names
from sol_core.reporting.verdict import tasks_verdict

HELP = "measure a policy's accuracy on downstream tasks, against dense and static"
Gain = dict[str, float] | None
_SCORED = (
    *("  asked", "method", "spent", "MB a token", "accuracy"),
    *("over static, points", "over static, NLL"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_policy(parser)
    texts = {
        "tasks LIST": "of arc_easy, hellaswag, piqa, winogrande, lambada, mmlu (default: these)",
        "budgets LIST": f'mean spends, "{",".join(SHORT_AXES)};…" (default: four, from mild to '
        "harsh), or shares of the full model's bytes, as in 50%%,65%%",
    }
    cli.add_texts(parser, texts)
    cli.add_value(parser, "limit", 500, "questions of each task")
    cli.add_value(parser, "seed", 0, "decides which questions")
    cli.add_model(parser)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    config = _config(args)
    model, name, source, root = policy_on_model(args, config.budgets)
    from sol_core.accuracy.runner import run_tasks

    kept = root / PARTIAL_FOLDER
    grid = chosen_grid(args)
    events = run_tasks(model, name, source, config, data_dir=root, partial=kept, grid=grid)
    result = shown_result(args, events).result
    cli.print_result(args, result, tasks_table(result))
    return 0


def _config(args: argparse.Namespace) -> TasksConfig:
    parsers: dict[str, Callable[[str], Any]] = {"tasks": parse_names, "budgets": parse_budgets}
    texts = {name: text for name in parsers if (text := getattr(args, name)) is not None}
    lists = {name: parsers[name](text) for name, text in texts.items()}
    return TasksConfig(limit=args.limit, seed=args.seed, **lists)


def tasks_table(result: dict[str, Any]) -> str:
    """Every method on every task at every budget, spend beside it."""
    lines = [
        f"{result['policy']} ({result['grid']} grid) on {result['model']}, accuracy in %, "
        "NLL of the right answers in nats per token (95 % interval)"
    ]
    for task in result["tasks"]:
        chance = f"chance {100 * task['chance']:.1f}"
        title = f"{task['task']}: {task['questions']} questions, {chance}"
        lines += ["", *_scored(title, task)]
    for pooled in result["pooled"]:
        title = f"{', '.join(pooled['tasks'])}: {pooled['questions']} questions together"
        lines += ["", *_scored(title, pooled)]
    return "".join(f"{line}\n" for line in (*lines, "", *_judged(result)))


def _judged(result: dict[str, Any]) -> list[str]:
    verdict = tasks_verdict(result)
    return [str(verdict or "Nothing is compared: static never spent what the policy did.")]


def _scored(title: str, scored: dict[str, Any]) -> list[str]:
    rows = []
    for budget in scored["budgets"]:
        gains = {"policy": (budget["gain"], budget["nll_gain"])}
        for at, (name, method) in enumerate(budget["methods"].items()):
            points, nll = gains.get(name, (None, None))
            rows.append(
                (
                    "  " if at else f"  {budget_label(budget['requested'])}",
                    name,
                    _spent(budget, method),
                    f"{method['bytes_per_token'] / 1e6:.1f}",
                    _percent(method["accuracy"]),
                    _points(points),
                    _nats(nll),
                )
            )
    dense = _percent(scored["dense"]["accuracy"])
    return [f"{title}, dense {dense}", *table(_SCORED, rows, "<<>>>><")]


def _interval(value: Gain, form: str, scale: float = 1) -> str:
    """A mean and its 95 % interval; nothing where there is none."""
    if value is None:
        return ""
    mean, low, high = (format(scale * value[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


_points = partial(_interval, form="+.1f", scale=100)
_percent = partial(_interval, form=".1f", scale=100)
_nats = partial(_interval, form="+.3f")


def _spent(budget: dict[str, Any], method: dict[str, Any]) -> str:
    if "share" in budget["requested"]:
        return f"{100 * method['bytes_share']:.1f} %"
    return budget_label(method["spend"])
