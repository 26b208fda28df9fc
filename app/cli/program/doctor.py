"""``launch.py doctor``: what is here and what is missing. It works without the packages."""

from __future__ import annotations

import argparse

from app.cli.options import add_json, add_model, model_name, open_data_dir, print_result
from app.cli.terminal import record_text
from app.host import environment
from app.host.console import Console
from app.host.paths import DataDir

HELP = "show versions, device, model, disk and database, and what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and the data directory to look at."""
    add_model(parser, with_device=False)
    add_json(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="first read every byte of the model; fetch it again where it is damaged or missing",
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="test the GPU and measure the model on it: what runs in which way, how fast, and "
        "whether compressing pays; exit status 0 right, 1 right with replacements, 2 use the CPU",
    )
    parser.set_defaults(install=False)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 when something that is needed is missing."""
    from app.setup.diagnosis import diagnose

    if args.repair:
        _repair(args)
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
    print_result(args, findings, text if findings["missing"] else f"{text}\nNothing is missing.\n")
    return 1 if findings["missing"] else 0


def _gpu(args: argparse.Namespace) -> int:
    """Print the report on the GPU; its status."""
    from sol_core.speed.card_report import card_report

    console, root = Console(), open_data_dir(args).root
    report = card_report(model_name(args), root, console.progress, args.dtype)
    console.clear()
    print_result(
        args,
        report,
        record_text({name: value for name, value in report.items() if name != "status"}),
    )
    return int(report["status"])


def _repair(args: argparse.Namespace) -> None:
    """Raise SolError when the model cannot be made whole."""
    from sol_core.models.loading import repair_model

    console = Console()
    repair_model(model_name(args), open_data_dir(args).root, console.progress)
    console.clear()
