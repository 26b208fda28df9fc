"""``launch.py doctor``: versions, device, model, disk and database; what is missing.

Creates and downloads nothing unless asked to ``--repair`` the model, and works without the
packages, so that it can say which ones are missing.
"""

from __future__ import annotations

import argparse
from typing import Any

from app.cli.options import add_json, add_model, model_name, open_data_dir, print_result
from app.cli.terminal import escape
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
    parser.set_defaults(install=False)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 when something that is needed is missing."""
    from app.setup.diagnosis import diagnose

    if args.repair:
        _repair(args)
    data_dir: DataDir | None
    try:
        data_dir = DataDir.resolve(args.data_dir)
        environment.prepare(data_dir.root)
    except ModuleNotFoundError:  # platformdirs: the findings name it
        data_dir = None
    findings = diagnose(data_dir, args.model, args.dtype)
    print_result(args, findings, _as_text(findings))
    return 1 if findings["missing"] else 0


def _repair(args: argparse.Namespace) -> None:
    """Raise SolError when the model cannot be made whole."""
    from sol_core.models.loading import repair_model

    console = Console()
    repair_model(model_name(args), open_data_dir(args).root, console.progress)
    console.clear()


def _as_text(findings: dict[str, Any]) -> str:
    lines = []
    for section, content in findings.items():
        if section == "missing":
            continue
        for name, value in content.items():
            lines.append(f"{section:9} {name:12} {_value(value)}")
            section = ""  # only the first line of a section carries its name
    if findings["missing"]:
        lines += ["", "Missing:", *(f"  {sentence}" for sentence in findings["missing"])]
    else:
        lines += ["", "Nothing is missing."]
    return "".join(f"{escape(line)}\n" for line in lines)


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
