"""``launch.py evaluate POLICY``: a policy against its baselines at matched spend."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.job_options import WorkEvents, add_policy, corpus_source, measured_policy
from app.cli.options import add_json, add_model, print_json
from app.cli.reports.evaluation import as_table
from app.host.console import write_out
from app.host.errors import AppError, InputFileError
from app.results.files import csv_text

if TYPE_CHECKING:
    from sol_core.evaluation import EvaluationConfig
    from sol_core.models.loading import LanguageModel

HELP = "measure a policy against static, random and other schedules at the same spend"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The policy, the text, the budgets, the baselines."""
    add_policy(parser)
    parser.add_argument(
        "--corpus",
        default="builtin",
        metavar="FILE",
        help="text that is scored: a file, a folder, a Hub data set, or builtin (the default)",
    )
    parser.add_argument(
        "--budgets",
        metavar="LIST",
        help='mean spends, "keep,channels,bits;…" (default: nine of them)',
    )
    parser.add_argument(
        "--baselines",
        default="static,random:10",
        metavar="LIST",
        help="of static, random:N, emc, dac (default: %(default)s)",
    )
    for name, value, text in (
        ("texts", 128, "texts"),
        ("context", 256, "dense tokens before the first step"),
        ("steps", 16, "scored steps of a rollout"),
        ("windows", 1, "rollouts of a text, one after another, on one prefill"),
        ("seed", 0, "decides texts and random schedules"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=value, help=f"{text} (default: %(default)s)"
        )
    parser.add_argument("--sampled", action="store_true", help="also sample the policy's actions")
    parser.add_argument(
        "--pollution", action="store_true", help="also probe how long compressed keys do harm"
    )
    parser.add_argument(
        "--refresh", action="store_true", help="also measure what refreshing the cache gives"
    )
    parser.add_argument(
        "--timing", action="store_true", help="also time single steps of dense, policy and static"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write result.json and result.csv there"
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    config = _config(args)

    def measure(model: LanguageModel, name: str, folder: Path, data_dir: Path) -> WorkEvents:
        from sol_core.evaluation import evaluate

        return evaluate(model, {name: folder}, config, data_dir=data_dir)

    result = measured_policy(args, config.budgets, measure)
    if args.out is not None:
        _write(args.out, result)
    if args.json:
        print_json(result)
    else:
        write_out(as_table(result))
    return 0


def _check(args: argparse.Namespace) -> None:
    args.corpus = corpus_source(args.corpus)
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise InputFileError(f"--out {args.out} is a file: name a folder")


def _config(args: argparse.Namespace) -> EvaluationConfig:
    """Raises: ConfigError naming what is not allowed."""
    from sol_core.evaluation import EvaluationConfig, parse_baselines, parse_budgets

    flags = ("sampled", "pollution", "refresh", "timing")
    names = ("corpus", "texts", "context", "steps", "windows", "seed", *flags)
    options = {name: getattr(args, name) for name in names}
    if args.budgets is not None:
        options["budgets"] = parse_budgets(args.budgets)
    return EvaluationConfig(baselines=parse_baselines(args.baselines), **options)


def _write(folder: Path, result: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result, allow_nan=False, indent=2), "utf-8")
        (folder / "result.csv").write_text(csv_text(result), "utf-8", newline="")
    except OSError as error:
        raise AppError(f"cannot write to {folder}: {error.strerror or error}") from error
