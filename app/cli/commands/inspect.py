"""``launch.py inspect FILE``: any text scored token by token under several schedules."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from app.cli import options as cli
from app.cli.terminal import ColourDepth, colour_depth, escape, legend, paint, table
from app.host.console import Console, write_out
from sol_core.actions import SHORT_AXES, grid_name, record_of
from sol_core.config import DEFAULT_POLICY, POLICY_PREFIX
from sol_core.events import PrefillProgress, StepCost
from sol_core.inspection import records

INSPECTION_VERSION = 1  # of the JSON; raised when a field changes its meaning or goes
HELP = "score a text token by token under several schedules; nothing is generated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schedules",
        metavar="LIST",
        default=f"dense,static,{POLICY_PREFIX}{DEFAULT_POLICY}",
        help=f"up to {records.MAX_SCHEDULES} beside dense, which always rides along, separated by "
        f"commas; each is {cli.SCHEDULE_HELP} (default: %(default)s)",
    )
    text = "leave out what comes after N tokens (default: the model's context)"
    cli.add_texts(parser, {"max-tokens N": text}, type=int)
    cli.add_fixed_text(parser)


def run(args: argparse.Namespace) -> int:
    find = cli.settle_schedules(args, args.max_tokens)
    console = Console()
    budgets = [schedule.budget for schedule in args.config.schedules]
    model, _ = cli.load_model(args, console, budgets)
    from sol_core.inspection.engine import inspect_text

    events = inspect_text(model, args.text, args.config, policies=find)
    start, tokens, end = _collect(events, console)
    if start.tokens_left_out:
        asked, context = args.config.max_tokens, model.context_length
        is_asked = asked is not None and asked <= context
        limit = f"--max-tokens {asked}" if is_asked else f"the model's context holds {context:,}"
        console.say(
            f"note: the text has {start.text_tokens:,} tokens; the last "
            f"{start.tokens_left_out:,} were left out ({limit})"
        )
    if args.json:
        report = {
            "kind": "inspection",
            "version": INSPECTION_VERSION,
            "model": model.name,
            "text": args.text,
            "config": args.config.to_dict(),
            "start": start.to_dict(),
            "tokens": [token.to_dict() for token in tokens],
            "end": end.to_dict(),
        }
        grid = {"dtype": model.dtype_name, "grid": grid_name(args.config.grid_in_use)}
        cli.print_json(report | grid | {"schedules": _per_token(end)})
        return 0
    write_out(coloured_text(start, tokens, colour_depth(sys.stdout)))
    write_out(report_text(start, end))
    return 0


def _per_token(end: records.InspectionEnd) -> list[dict[str, Any]]:
    """Means per token of every schedule; bytes are computed, ``share`` is of the dense ones."""
    dense = end.rows[0].cost if end.rows else StepCost()
    return [
        {
            "name": row.name,
            "nll": row.nll,
            "kl": row.kl,
            "spend": record_of(row.spend),
            "bytes_per_token": row.cost.bytes_read / end.num_tokens,
            "dense_bytes_per_token": dense.bytes_read / end.num_tokens,
            "share": row.cost.bytes_read / dense.bytes_read,
            "bit_operations_per_token": row.cost.bit_operations / end.num_tokens,
        }
        for row in end.rows
    ]


def check(args: argparse.Namespace) -> None:
    cli.read_fixed_text(args, map(str.strip, args.schedules.split(",")))


def _collect(
    events: Iterable[records.InspectionEvent], console: Console
) -> tuple[records.InspectionStart, list[records.InspectedToken], records.InspectionEnd]:
    tokens: list[records.InspectedToken] = []
    for event in events:
        if isinstance(event, PrefillProgress):
            console.status(f"Reading the text: {event.words}")
        elif isinstance(event, records.InspectionStart):
            start = event
        elif isinstance(event, records.InspectedToken):
            tokens.append(event)
            console.progress("Scoring", len(tokens) / start.scored_tokens)
        elif isinstance(event, records.InspectionEnd):
            end = event
    console.clear()
    return start, tokens, end


def coloured_text(
    start: records.InspectionStart, tokens: Sequence[records.InspectedToken], depth: ColourDepth
) -> str:
    """The scored text coloured by the last schedule; nothing where there are no colours."""
    if depth == "none":
        return ""
    painted = [paint(token.text, token.rows[-1].action.net_keep_rate, depth) for token in tokens]
    scale = legend(depth).rstrip()
    return escape(start.prefix_text) + "".join(painted) + f"\n\n{scale} ({start.rows[-1]})\n\n"


def report_text(start: records.InspectionStart, end: records.InspectionEnd) -> str:
    """Totals per schedule and spend by kind of token; the tokens that stand out are in the JSON."""
    lines = [
        f"{end.num_tokens:,} tokens scored after {len(start.prefix):,} read densely; measured "
        f"{end.tokens_per_s:.1f} tokens/s, {len(start.rows)} rows a step",
        *map(str, end.verdicts),
        *_totals(end),
    ]
    if end.report is not None:
        for row in end.report.rows:
            lines += ["", *_row(row)]
    return "\n".join(lines) + "\n"


def _totals(end: records.InspectionEnd) -> list[str]:
    """Every schedule; static also at the bytes of the rows that were compared with it there."""
    if not end.rows:
        return []
    dense, again = end.rows[0], {row.name: row for row in end.matched}
    cells = []
    for row in end.rows:
        axes = (f"{value:.3f}" for value in row.spend.as_tuple())
        cells.append((*_line(row.name, row.nll, row.kl, row.cost, dense.cost), *axes))
        if (matched := again.get(row.name)) is not None:
            losses = fmean(matched.nll), fmean(matched.kl)
            line = _line("  static at its bytes", *losses, matched.cost, dense.cost)
            cells.append((*line, "", "", ""))
    return table(("", "compute", "KL", "NLL", "perplexity", *SHORT_AXES), cells, "<>>>>>>>")


def _line(name: str, nll: float, kl: float, cost: StepCost, dense: StepCost) -> tuple[str, ...]:
    compute = f"{100 * cost.bytes_read / dense.bytes_read:.1f} %"
    return name, compute, f"{kl:.3f}", f"{nll:.3f}", f"{math.exp(nll):.2f}"


def _row(row: records.RowReport) -> list[str]:
    lines = [f"{row.name}: spend by kind of token"]
    head = ("  ", "tokens", *SHORT_AXES, "KL", "lost vs dense")
    cells = [
        (
            f"  {kind.kind}",
            f"{kind.tokens:,}",
            *(f"{getattr(kind, name):.3f}" for name in SHORT_AXES),
            f"{kind.kl:.3f}",
            f"{kind.loss:+.4f}",
        )
        for kind in row.kinds
    ]
    lines += table(head, cells, f"<{'>' * (len(head) - 1)}")
    pairs = ", ".join(
        f"{axis} {values['surprisal']:+.2f} and {values['entropy']:+.2f}"
        for axis, values in row.correlation.items()
    )
    lines.append(f"  rank correlation of spend with dense surprisal and entropy: {pairs}")
    return lines
