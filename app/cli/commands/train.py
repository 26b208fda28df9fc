"""``launch.py train``: train a policy here and now, as a job that the page shows too."""

from __future__ import annotations

import argparse
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import options as cli
from app.cli.input_files import apply_settings, merged, read_experiment, take_options
from app.cli.job_options import ProgressLine, open_jobs
from app.cli.terminal import record_text
from app.formats import json_safe
from app.host.console import Console, write_out
from app.host.errors import AppError, InputFileError, system_errors
from app.host.interrupts import EXIT_INTERRUPTED
from app.host.paths import DataDir
from sol_core.errors import ConfigError, PolicyNotKeptError, SolError
from sol_core.fields import from_json
from sol_core.files.paths import program_name
from sol_core.progress import WorkProgress
from sol_core.reporting.verdict import training_verdict
from sol_core.training.config import NOMINAL_MINUTES, PRESETS, TrainConfig, for_minutes, preset

if TYPE_CHECKING:
    from app.jobs.runner import JobFunction, JobOutcome, JobUpdate
    from storage import JobRecord, JobStore

HELP = "train a policy in the foreground; the page shows it as a job"
DEFAULT_PRESET = "standard"
OWNER = "command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="minutes on two CPU cores: "
        + ", ".join(f"{name} {minutes:g}" for name, minutes in NOMINAL_MINUTES.items())
        + f"; paper has the paper's settings (default: {DEFAULT_PRESET})",
    )
    texts = {
        "corpus PATH": "a .txt, .jsonl, .csv or .parquet file, a folder of them, a Hub data set "
        "owner/name:config:part:column (owner/name is enough), or builtin (the default)",
        "name": "what to call the policy (default: after preset and seed)",
        "resume ID": "go on with a job that was paused, failed or was cut off",
    }
    files = {
        "config FILE": "a TOML file of settings, as policies recipe writes them; other options "
        "come on top",
        "out DIR": "also put the policy into this new or empty folder",
    }
    minutes = "end after this time with a policy; above the preset's own, with more work"
    cli.add_texts(parser, texts)
    cli.add_texts(parser, files, type=Path)
    cli.add_texts(parser, {"minutes M": minutes}, type=float)
    parser.add_argument("--seed", type=int, help="same seed and machine: same policy (default: 0)")
    keep = "keep the policy even if it learnt nothing or is no better than static"
    cli.add_flag(parser, "allow-untrained", keep)
    text = "any field of the configuration, such as grpo.updates=50"
    cli.add_several(parser, "set KEY=VALUE", text, dest="settings")
    cli.add_model(parser)
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from app.host.interrupts import StopFlag, set_by_signals
    from app.jobs.engines import ENGINES, train_job
    from app.jobs.runner import JobResources, run_job

    console = Console()
    with open_jobs(args, fills=True) as (data_dir, store):
        job = _job(args, store.jobs)
        args.again = f"{program_name()} train --resume {job.id}"
        if args.data_dir is not None:
            args.again += f" --data-dir {shlex.quote(str(args.data_dir))}"
        args.notice.kept = f"the job and its last checkpoint are kept; go on with: {args.again}"
        engine: JobFunction = ENGINES[job.kind]
        if args.allow_untrained:
            engine = partial(train_job, allow_untrained=True)
        stop, show = StopFlag(), partial(_show, console, ProgressLine(console))
        resources = JobResources(
            store.jobs, data_dir, str(job.worker), stop, released_as="paused", on_update=show
        )
        with set_by_signals(stop):
            outcome = run_job(job, engine, resources)
        console.clear()
        return _report(args, job, outcome, data_dir)


def _job(args: argparse.Namespace, jobs: JobStore) -> JobRecord:
    """A new job, or the one to resume, as this process's. Raises: AppError, ConfigError."""
    from app.host.processes import own_worker_id
    from app.jobs.worker import reap
    from storage import StorageError

    worker = own_worker_id()
    try:
        if args.resume:
            reap(jobs)
            if jobs.get(args.resume).kind != "train":
                raise AppError(
                    f"the job {args.resume} is no training; resume it with: jobs resume "
                    f"{args.resume}"
                )
            return jobs.resume(args.resume, worker)
        params = _params(args)
        return jobs.create("train", OWNER, str(params["name"]), params, worker=worker)
    except StorageError as error:
        raise AppError(str(error)) from error


def _report(
    args: argparse.Namespace, job: JobRecord, outcome: JobOutcome, data_dir: DataDir
) -> int:
    """Say how it ended; returns the exit status. Raises: what the engine raised."""
    if outcome.status == "failed":
        raise _why_failed(outcome, args.again)
    if outcome.status is None:
        raise AppError(f"another process took the job {job.id}; see: {program_name()} jobs list")
    result = outcome.result or {}
    if outcome.status == "succeeded" and args.out is not None:
        from app.policies.library import PolicyLibrary

        name = str(result["policy"])
        with system_errors(f"the policy is stored as {name!r}, but cannot be copied to {args.out}"):
            PolicyLibrary(data_dir).copy_out(name, args.out)
    if args.json:
        report = {"job": job.id, "status": outcome.status, "params": job.params, **result}
        report["out"] = None if args.out is None else str(args.out)
        cli.print_json(report)
    elif outcome.status == "succeeded":
        write_out(_summary(result))
    if outcome.status == "succeeded":
        return 0
    Console().say(
        f"{outcome.status}, with a checkpoint; go on here with: {args.again}, or in the "
        f"background with: {program_name()} jobs resume {job.id}"
    )
    return EXIT_INTERRUPTED


def _why_failed(outcome: JobOutcome, again: str) -> SolError:
    reason = outcome.reason
    if isinstance(reason, PolicyNotKeptError):
        return AppError(f"{reason}; to keep it all the same: {again} --allow-untrained")
    if isinstance(reason, SolError):
        return reason
    return AppError(outcome.error or "the training failed")


def _show(console: Console, line: ProgressLine, update: JobUpdate) -> None:
    if isinstance(update, str):
        console.progress(update)
    elif isinstance(update, WorkProgress):
        line.show(update)


def check(args: argparse.Namespace) -> None:
    """Refuse what can be known to be wrong before anything is loaded."""
    of_job = (args.preset, args.config, args.minutes, args.corpus, args.seed, args.name)
    if args.resume and (args.settings or any(value is not None for value in of_job)):
        raise ConfigError("--resume goes on with the job's own settings: leave the others out")
    options, args.fields = read_experiment(args.config)
    if args.preset is not None and options.get("preset"):
        raise ConfigError(f"{args.config} names a preset itself: leave --preset out")
    take_options(args, options)
    if args.preset not in (None, *PRESETS):
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {args.preset!r}")
    if args.name is not None and not args.name.strip():
        raise ConfigError("--name is empty: give a name, or leave the option out")
    if args.out is not None and args.out.exists():
        wrong = "not empty" if args.out.is_dir() else "a file"
        if not args.out.is_dir() or any(args.out.iterdir()):
            raise InputFileError(f"--out {args.out} is {wrong}: name a new or an empty folder")


def _params(args: argparse.Namespace) -> dict[str, Any]:
    config = _config(args)
    model = cli.model_name(args)
    if Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().absolute())
    name = args.name or f"{args.preset or DEFAULT_PRESET}-seed{config.seed}"
    params = {"config": json_safe(config.to_dict()), "model": model, "name": name}
    chosen = {"dtype": args.dtype, "device": args.device}
    return params | {key: value for key, value in chosen.items() if value != "auto"}


def _config(args: argparse.Namespace) -> TrainConfig:
    name = args.preset or DEFAULT_PRESET
    alone = args.config is not None and args.preset is None  # the file says everything
    config = TrainConfig() if alone else preset(name)
    if args.minutes is not None:
        config = for_minutes(config, name, args.minutes)
    given = {"corpus": args.corpus, "seed": args.seed}
    on_top = {key: value for key, value in given.items() if value is not None}
    record = merged(merged(config.to_dict(), args.fields), on_top)
    config = from_json(TrainConfig, record)
    return apply_settings(config, args.settings)


def _summary(result: dict[str, Any]) -> str:
    summary = result.get("summary") or {}
    shown = {name: value for name, value in summary.items() if name != "train_config"}
    policy = str(result.get("policy"))
    verdict = training_verdict(policy, summary.get("held_out", {}))
    told = "" if verdict is None else f"{verdict}\n"
    return told + record_text({"policy": policy, "folder": result.get("folder")} | shown)
