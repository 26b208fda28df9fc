"""``launch.py lens FILE --token I``: one token under every level of every axis."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from app.cli import options as cli
from app.cli.terminal import escape, table
from app.host.console import Console, write_out
from sol_core.actions import AXES, record_of
from sol_core.errors import ConfigError
from sol_core.lens.records import LensRow, LensView, PageEffects

LENS_VERSION = 1  # of the JSON; raised when a field changes its meaning or goes
ROW_FIELDS = ("nll", "kl", "entropy", "choice")  # of ``LensRow``, beside its action
SHOWN_PAGES = 10
HELP = "what one token of a text costs under every level of attention, channels and bits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token",
        type=int,
        required=True,
        metavar="I",
        help="which token, counted as inspect --json does: 0 is the first one that is scored",
    )
    text = f"what all other steps, and the other two axes of this one, spend: {cli.SCHEDULE_HELP}"
    cli.add_value(parser, "schedule KIND", "dense", text)
    cli.add_left_out(parser, "also decode the step without these pages of the cache")
    text = "also decode it without each page of the cache in turn: which of them mattered"
    cli.add_flag(parser, "rank-pages", text)
    cli.add_fixed_text(parser)


def run(args: argparse.Namespace) -> int:
    find = cli.settle_schedules(args)
    console = Console()
    model, _ = cli.load_model(args, console)
    from sol_core.generation.sampling import page_texts
    from sol_core.lens.engine import Lens, run_of_text
    from sol_core.models.provenance import made_on

    run, token_id = run_of_text(model, args.text, args.token, args.config, find)
    lens, token = Lens(model, run), model.spelled(token_id)
    view = lens.look(args.token, args.without)
    effects = None
    while args.rank_pages and (effects is None or len(effects.effects) < effects.count):
        effects = lens.page_effects(args.token)
        console.progress("Leaving out pages", len(effects.effects) / max(effects.count, 1))
    console.clear()
    texts = list(page_texts(model.text_codec, list(run.tokens), run.grid.page_size))
    if args.json:
        looked = {"model": model.name, "dtype": model.dtype_name, "config": args.config.to_dict()}
        looked["made_on"] = made_on(model)
        looked["token"] = {"index": view.index, "token_id": token_id, "text": token}
        report = {"kind": "lens", "version": LENS_VERSION} | looked | _numbers_of(view)
        if effects is not None:
            report |= {"pages": _ranked(effects, texts), "correlation": effects.correlation}
        cli.print_json(report)
    else:
        write_out(_table(view, token, args.schedule))
        if effects is not None:
            write_out(_pages_table(effects, texts))
    return 0


def _ranked(effects: PageEffects, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The pages, the one that mattered most first."""
    pages = [
        {
            "page": page,
            "text": texts[page],
            "kl": effect.kl,
            "nll_change": effect.nll_change,
            "attention": share,
            "choice": record_of(effect.choice),
        }
        for page, (effect, share) in enumerate(zip(effects.effects, effects.attention, strict=True))
    ]
    return sorted(pages, key=lambda page: -page["kl"])


def _pages_table(effects: PageEffects, texts: Sequence[str]) -> str:
    rows = [
        (
            str(page["page"]),
            *(f"{page[name]:.4f}" for name in ("kl", "nll_change")),
            f"{100 * page['attention']:.1f} %",
            escape(page["text"].strip()),
        )
        for page in _ranked(effects, texts)[:SHOWN_PAGES]
    ]
    head = ("page left out", "KL", "NLL change", "attention", "text")
    lines = ["", *table(head, rows, ">>>><")]
    if effects.correlation is not None:
        over = f"over {effects.count} pages: {effects.correlation:.2f}"
        lines.append(f"rank correlation of KL and attention {over}")
    return "\n".join(lines) + "\n"


def _numbers_of(view: LensView) -> dict[str, Any]:
    """The steps, one row per level of every axis, and what followed."""
    fields = view.to_dict()
    rows = [
        {"axis": axis.field, "level": row["action"][axis.field]}
        | {name: row[name] for name in ROW_FIELDS}
        for axis, levels in zip(AXES, fields["axes"], strict=True)
        for row in levels
    ]
    shown = {name: fields[name] for name in ("taken", "dense", "without") if name in fields}
    return shown | {"rows": rows, "trails": fields["trails"]}


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
    if view.without is not None:
        effect, pages = view.without, ", ".join(map(str, view.without.pages))
        choice = f"{escape(effect.choice.text)!r} {effect.choice.probability:.3f}"
        lines.append(
            f"without pages {pages}: NLL {effect.nll:.4f} ({effect.nll_change:+.4f}), KL "
            f"{effect.kl:.4f}, would choose {choice}"
        )
    return "\n".join(lines) + "\n"


def _numbers(row: LensRow, axis: str) -> tuple[str, ...]:
    choice = f"{escape(row.choice.text)!r} {row.choice.probability:.3f}"
    numbers = (f"{value:.4f}" for value in (row.nll, row.kl, row.entropy))
    return f"{getattr(row.action, axis):g}", *numbers, choice


def check(args: argparse.Namespace) -> None:
    if args.token < 0:
        raise ConfigError(f"--token must be 0 or more, got {args.token}")
    cli.read_fixed_text(args, [args.schedule])
