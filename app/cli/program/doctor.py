"""``launch.py doctor``: what is here and what is missing. It works without the packages."""

from __future__ import annotations

import argparse

from app.cli import options as cli
from app.cli.terminal import record_text
from app.host import environment
from app.host.console import Console
from app.host.paths import DataDir

HELP = "show versions, device, model, disk and database, and what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_model(parser, with_device=False)
    cli.add_json(parser)
    text = "first read every byte of the model; fetch it again where it is damaged or missing"
    cli.add_flag(parser, "repair", text)
    text = "test the GPU and measure the model on it: what runs in which way, how fast, and whether"
    text += " compressing pays; exit status 0 right, 1 right with replacements, 2 use the CPU"
    cli.add_flag(parser, "gpu", text)
    cli.add_flag(parser, "again", "with --gpu: repeat the tests that have a verdict")
    parser.set_defaults(install=False)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 when something that is needed is missing."""
    from app.setup.diagnosis import diagnose

    if args.repair:
        from sol_core.models.loading import repair_model

        console = Console()
        repair_model(cli.model_name(args), cli.open_data_dir(args).root, console.progress)
        console.clear()
    if args.gpu:
        return _gpu(args)
    data_dir: DataDir | None
    try:
        data_dir = DataDir.resolve(args.data_dir)
        environment.prepare(data_dir.root)
    except ModuleNotFoundError:  # platformdirs: the findings name it
        data_dir = None
    findings = diagnose(data_dir, args.model, args.dtype)
    text = record_text(findings)
    cli.print_result(
        args, findings, text if findings["missing"] else f"{text}\nNothing is missing.\n"
    )
    return 1 if findings["missing"] else 0


def _gpu(args: argparse.Namespace) -> int:
    from app.bench.card_report import card_report

    console, root = Console(), cli.open_data_dir(args).root
    name = cli.model_name(args)
    report = card_report(name, root, console.progress, args.dtype, again=args.again)
    console.clear()
    shown = {name: value for name, value in report.items() if name != "status"}
    cli.print_result(args, report, record_text(shown))
    return int(report["status"])
