"""``launch.py sweep FILE.toml``: a policy for each seed, each evaluated, all in one table.

The file has ``seeds``, the model's options and two tables, ``[train]`` and ``[evaluate]``, of what
differs from the defaults. Everything goes into one folder, and what is there already is not done
again: ``seedN/run`` with its checkpoints, ``seedN/result.json``, ``table`` and ``summary``.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.experiment_file import (
    MODEL_OPTIONS,
    experiment_text,
    read_experiment,
    take_options,
    versions,
)
from app.cli.job_options import shown_result
from app.cli.options import add_json, add_model, load_model, open_data_dir, print_result
from app.formats.plain_json import json_safe
from app.host.console import Console
from app.host.errors import AppError, InputFileError
from app.jobs.stop_flag import StopFlag, set_by_signals
from app.results.seeds import seed_rows, summarised, summary_text, write_tables
from sol_core.actions import record_of
from sol_core.files.staging import replacing

if TYPE_CHECKING:
    from app.cli.sweep_file import Sweep
    from sol_core.models.loading import LanguageModel

HELP = "train and evaluate a policy for each of several seeds, into one table"
EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the folder."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a TOML file: seeds = [0, 1, 2], and tables [train] (a preset, what differs from it) "
        "and [evaluate]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of policies, results and tables; the same one goes on (default: FILE without "
        "its ending)",
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Do what is left to do, and print the means over seeds."""
    from app.cli.sweep_file import read_sweep

    console, stop = Console(), StopFlag()
    sweep = read_sweep(args.experiment)
    _keep_settings(args, sweep)
    rows: list[dict[str, Any]] = []
    model: LanguageModel | None = None
    with set_by_signals(stop):
        for number, seed in enumerate(sweep.seeds):
            folder = args.out / f"seed{seed}"
            result = _read_result(folder)
            if result is None:
                model = model or load_model(args, console).model
                console.say(f"seed {seed}, {number + 1} of {len(sweep.seeds)}")
                result = _measure(args, sweep, seed, model, console, stop)
            if result is None:
                console.say("stopped; the same command goes on from here")
                return EXIT_INTERRUPTED
            rows += seed_rows(seed, result)
            summary = summarised(rows)
            write_tables(args.out, rows, summary)
    record = {"folder": str(args.out), "rows": rows, "summary": summary}
    print_result(args, record, summary_text(summary))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be known to be wrong before anything is loaded."""
    args.experiment = read_experiment(args.file, MODEL_OPTIONS)
    take_options(args, args.experiment)
    args.out = args.file.with_suffix("") if args.out is None else args.out
    if args.out.exists() and not args.out.is_dir():
        raise InputFileError(f"{args.out} is a file: name a folder with --out")


def _keep_settings(args: argparse.Namespace, sweep: Sweep) -> None:
    """Write the whole sweep into its folder, or see that the folder holds this one.

    Raises: AppError.
    """
    record = {name: getattr(args, name) for name in MODEL_OPTIONS} | json_safe(record_of(sweep))
    del record["train"]["seed"]
    remarks = ("A sweep; to do it again: sweep THIS_FILE --out NEW_FOLDER", versions())
    text = experiment_text(record, remarks)
    file = args.out / "sweep.toml"
    try:
        if not file.exists():
            args.out.mkdir(parents=True, exist_ok=True)
            _write(file, text)
        elif tomllib.loads(file.read_text("utf-8")) != tomllib.loads(text):
            raise AppError(f"{args.out} holds a sweep of other settings: name another --out")
    except (OSError, ValueError) as error:
        raise AppError(f"cannot keep the sweep in {args.out}: {error}") from error


def _measure(
    args: argparse.Namespace,
    sweep: Sweep,
    seed: int,
    model: LanguageModel,
    console: Console,
    stop: StopFlag,
) -> dict[str, Any] | None:
    """Train and evaluate one seed's policy; None when asked to stop."""
    from sol_core.evaluation import evaluate
    from sol_core.training import train

    data_dir, folder = open_data_dir(args).root, args.out / f"seed{seed}"
    config = replace(sweep.train, seed=seed)
    common: dict[str, Any] = {"data_dir": data_dir, "should_stop": stop.is_set}
    made = shown_result(train(model, config, folder / "run", **common), console)
    if made is None:
        return None
    policies = {f"seed{seed}": Path(made["folder"])}
    events = evaluate(model, policies, sweep.evaluate, partial=folder / "partial", **common)
    result = shown_result(events, console)
    if result is not None:
        _write(folder / "result.json", json.dumps(result, allow_nan=False, indent=2))
    return result


def _read_result(folder: Path) -> dict[str, Any] | None:
    """The finished result of a seed; None without one. Raises: AppError."""
    file = folder / "result.json"
    if not file.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AppError(f"cannot read {file}: {error}; delete it to measure it again") from error
    return result


def _write(file: Path, text: str) -> None:
    """Write a file as a whole: a reader, or the next start, finds all of it or nothing."""
    with replacing(file) as staged:
        staged.write_text(text, "utf-8")
