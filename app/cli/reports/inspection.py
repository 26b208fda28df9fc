"""Terminal output of ``inspect``: the coloured text, the schedules side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.cli.reports.generation import legend
from app.cli.terminal import ColourDepth, escape, paint, table
from sol_core.actions import SHORT_AXES
from sol_core.inspection.records import (
    InspectedToken,
    InspectionEnd,
    InspectionStart,
    RowReport,
    RowTotals,
)


def coloured_text(
    start: InspectionStart, tokens: Sequence[InspectedToken], depth: ColourDepth
) -> str:
    """The scored text coloured by the last schedule; nothing where there are no colours."""
    if depth == "none":
        return ""
    painted = [paint(token.text, token.rows[-1].action.net_keep_rate, depth) for token in tokens]
    scale = legend(depth).rstrip()
    return escape(start.prefix_text) + "".join(painted) + f"\n\n{scale} ({start.rows[-1]})\n\n"


def report_text(start: InspectionStart, end: InspectionEnd) -> str:
    """Totals per schedule and spend by kind of token; the tokens that stand out are in the JSON."""
    lines = [
        f"{end.num_tokens:,} tokens scored after {len(start.prefix):,} read densely; measured "
        f"{end.tokens_per_s:.1f} tokens/s, {len(start.rows)} rows a step",
        *_totals(end.rows),
    ]
    if end.report is not None:
        for row in end.report.rows:
            lines += ["", *_row(row)]
    return "\n".join(lines) + "\n"


def _totals(rows: Sequence[RowTotals]) -> list[str]:
    dense = rows[0]
    static = next((row for row in rows if row.name == "static"), None)
    head = ("NLL", "perplexity", "vs dense", "vs static", "KL", *SHORT_AXES)
    cells = [
        (
            row.name,
            f"{row.nll:.3f}",
            f"{math.exp(row.nll):.2f}",
            f"{row.nll - dense.nll:+.4f}",
            "" if static is None else f"{row.nll - static.nll:+.4f}",
            f"{row.kl:.3f}",
            *(f"{value:.3f}" for value in row.spend.as_tuple()),
            f"{100 * (1 - row.cost.bytes_read / dense.cost.bytes_read):.0f} %",
        )
        for row in rows
    ]
    return table(("", *head, "bytes saved (computed)"), cells, f"<{'>' * len(head)}<")


def _row(row: RowReport) -> list[str]:
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
