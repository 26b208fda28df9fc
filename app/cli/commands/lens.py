"""``launch.py lens FILE --token I``: one token under every level of every axis."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from app.cli import options
from app.cli.commands.inspect import INSPECTED_BUDGET
from app.cli.input_files import read_text
from app.cli.own_schedule import with_own
from app.cli.terminal import escape, table
from app.formats.plain_json import json_safe
from app.host.console import Console, write_out
from sol_core.actions import AXES
from sol_core.errors import ConfigError
from sol_core.inspection.records import InspectionConfig

if TYPE_CHECKING:
    from sol_core.lens.records import LensRow, LensView

LENS_VERSION = 1  # of the JSON; raised when a field changes its meaning or goes
ROW_FIELDS = ("nll", "kl", "entropy", "choice")  # of ``LensRow``, beside its action
HELP = "what one token of a text costs under every level of attention, channels and bits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text and the token, what the other steps and axes are, the model."""
    parser.add_argument("file", metavar="FILE", help='a UTF-8 text file; "-" reads stdin')
    parser.add_argument(
        "--token",
        type=int,
        required=True,
        metavar="I",
        help="which token, counted as inspect --json does: 0 is the first one that is scored",
    )
    text = (
        f"what all other steps, and the other two axes of this one, spend: {options.SCHEDULE_HELP}"
    )
    options.add_value(parser, "schedule", "dense", text, metavar="KIND")
    options.add_fixed_text(parser, INSPECTED_BUDGET)
    options.add_model(parser)
    options.add_json(parser)
    parser.set_defaults(check=_check)


def run(args: argparse.Namespace) -> int:
    """Look and print."""
    library = options.settle_schedules(args)
    model, _ = options.load_model(args, Console())
    from sol_core.lens.engine import look_at_text

    find = with_own(library.resolve)
    view, token_id = look_at_text(model, args.text, args.token, args.config, find)
    token = model.spelled(token_id)
    if args.json:
        looked = {"model": model.name, "dtype": model.dtype_name, "config": args.config.to_dict()}
        looked["token"] = {"index": view.index, "token_id": token_id, "text": token}
        report = {"kind": "lens", "version": LENS_VERSION} | looked | _numbers_of(view)
        options.print_json(report)
    else:
        write_out(_table(view, token, args.schedule))
    return 0


def _numbers_of(view: LensView) -> dict[str, Any]:
    """The steps, one row per level of every axis, and what followed; JSON without NaN."""
    fields = view.to_dict()
    rows = [
        {"axis": axis.field, "level": row["action"][axis.field]}
        | {name: row[name] for name in ROW_FIELDS}
        for axis, levels in zip(AXES, fields["axes"], strict=True)
        for row in levels
    ]
    shown = {name: fields[name] for name in ("taken", "dense")}
    return dict(json_safe(shown | {"rows": rows, "trails": fields["trails"]}))


def _table(view: LensView, token: str, schedule: str) -> str:
    taken, dense = view.taken, view.dense
    rows = [
        (axis.field, *_numbers(row, axis.field), "taken" if row.action == taken.action else "")
        for axis, levels in zip(AXES, view.axes, strict=True)
        for row in levels
    ]
    head = ("axis", "level", "NLL", "KL", "entropy", "would choose", "")
    lines = [
        f"token {view.index} {escape(token)!r}: dense NLL {dense.nll:.4f} nats, entropy "
        f"{dense.entropy:.4f}",
        f"all else as {schedule} took it: here {taken.action.words}",
        *table(head, rows, "<>>>><<"),
    ]
    return "\n".join(lines) + "\n"


def _numbers(row: LensRow, axis: str) -> tuple[str, ...]:
    choice = f"{escape(row.choice.text)!r} {row.choice.probability:.3f}"
    numbers = (f"{value:.4f}" for value in (row.nll, row.kl, row.entropy))
    return f"{getattr(row.action, axis):g}", *numbers, choice


def _check(args: argparse.Namespace) -> None:
    if args.token < 0:
        raise ConfigError(f"--token must be 0 or more, got {args.token}")
    schedule = options.schedule_from_option(args.schedule, options.asked_budget(args), args.seed)
    args.asked = () if schedule.kind == "dense" else (schedule,)
    args.config = InspectionConfig(
        schedules=options.checkable(args, args.asked),
        grid=options.grid_from(args),
        prefix_tokens=args.prefix,
    )
    args.text = read_text(args.file)
