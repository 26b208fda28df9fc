"""Verdicts of an inspection: each schedule against static, or against the first one.

A painted schedule is judged against every other one. Where static read more or less than a row, it
was scored once more at the row's bytes, and that is what the row is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol_core.inspection.records import InspectedToken, MatchedStatic, RowTotals
from sol_core.reporting.verdict import (
    ENOUGH_TOKENS,
    Verdict,
    block_interval,
    method_name,
    verdict_of,
)

STATIC, PAINTED = "static", "painted"


def inspection_verdicts(
    tokens: Sequence[InspectedToken],
    totals: Sequence[RowTotals],  # the full model's first
    matched: Sequence[MatchedStatic],
) -> tuple[Verdict, ...]:
    """Judge every row; with too few tokens that is said once."""
    rows = [row.name for row in totals[1:]]
    if not rows:
        return ()
    first = STATIC if STATIC in rows else rows[0]
    others = [name for name in rows if name not in (first, PAINTED)]
    pairs = [(name, first) for name in others]
    if PAINTED in rows and first != PAINTED:
        pairs = [*((PAINTED, name) for name in (*others, first)), *pairs]
    dense = totals[0].cost.bytes_read
    shares = {row.name: row.cost.bytes_read / dense for row in totals}
    kl = {name: [token.rows[at].kl for token in tokens] for at, name in enumerate(shares)}
    again = {one.name: one for one in matched}
    made = []
    for name, other in pairs if len(tokens) >= ENOUGH_TOKENS else pairs[:1]:
        lost, share = kl[other], shares[other]
        if other == STATIC and name in again:
            lost, share = list(again[name].kl), again[name].cost.bytes_read / dense
        enough = len(tokens) >= ENOUGH_TOKENS
        gains = [base - own for base, own in zip(lost, kl[name], strict=True)]
        gain = block_interval(gains) if enough else None
        names, spent = (method_name(name), method_name(other)), [(shares[name], share)]
        made.append(verdict_of(*names, [gain], len(tokens), spent=spent))
    return tuple(one for one in made if one is not None)
