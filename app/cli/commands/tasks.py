"""``launch.py tasks POLICY``: accuracy on downstream tasks, against static at its spend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.job_options import PARTIAL_FOLDER, WorkEvents, add_policy, measured_policies
from app.cli.options import add_json, add_model, add_texts, add_value, print_result
from app.cli.reports.evaluation import tasks_table
from sol_core.actions import SHORT_AXES
from sol_core.evaluation.config import parse_budgets
from sol_core.tasks.config import TasksConfig, parse_contexts, parse_names

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

HELP = "measure a policy's accuracy on downstream tasks, against dense and static"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_policy(parser)
    texts = {
        "tasks LIST": "of arc_easy, hellaswag, piqa, winogrande, lambada, mmlu (default: these), "
        "and recall: facts hidden in long texts",
        "contexts LIST": "lengths of recall's texts in tokens, each with --limit questions "
        "(default: 1000,2000,4000,7500)",
        "budgets LIST": f'mean spends, "{",".join(SHORT_AXES)};…" (default: four, from mild to '
        "harsh), or shares of the full model's bytes, as in 50%%,65%%",
    }
    add_texts(parser, texts)
    baselines = "static, then paper (static with the paper's mechanisms at the same bytes)"
    add_value(parser, "baselines LIST", "static", baselines)
    add_value(parser, "limit", 500, "questions of each task")
    add_value(parser, "seed", 0, "decides which questions")
    add_model(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    config = _config(args)

    def measure(model: LanguageModel, name: str, source: Any, data_dir: Path) -> WorkEvents:
        from sol_core.tasks.runner import run_tasks

        partial = data_dir / PARTIAL_FOLDER
        return run_tasks(model, name, source, config, data_dir=data_dir, partial=partial)

    (finished,) = measured_policies(args, config.budgets, [measure])
    print_result(args, finished.result, tasks_table(finished.result))
    return 0


def _config(args: argparse.Namespace) -> TasksConfig:
    parsers: dict[str, Callable[[str], Any]] = {
        "tasks": parse_names,
        "contexts": parse_contexts,
        "budgets": parse_budgets,
        "baselines": parse_names,
    }
    texts = {name: text for name in parsers if (text := getattr(args, name)) is not None}
    lists = {name: parsers[name](text) for name, text in texts.items()}
    return TasksConfig(limit=args.limit, seed=args.seed, **lists)
