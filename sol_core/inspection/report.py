"""Spend against difficulty, read off an inspection.

No level is tried that no row took. So a token counts as over-served only where another row of the
inspection really spent less on it and came to no harm, and a loss holds what earlier compressed
steps left in the row's cache as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol_core.evaluation.probes import difficulty_report
from sol_core.inspection.noise import FEWEST_BITS, noise_floor
from sol_core.inspection.records import (
    DifficultyReport,
    InspectedRow,
    InspectedToken,
    KindSpend,
    RowReport,
    TokenPlace,
)

HARMLESS_KL = 0.01  # nats; a step this close to dense did not need more than it got
LISTED = 10  # entries of a list at most


def difficulty(tokens: Sequence[InspectedToken]) -> DifficultyReport:
    """The report of at least one token."""
    by_surprisal = sorted(tokens, key=lambda token: -token.rows[0].nll)
    return DifficultyReport(
        least_confident=tuple(_place(token, 0) for token in by_surprisal[:LISTED]),
        rows=tuple(_row_report(row, tokens) for row in range(1, len(tokens[0].rows))),
    )


def _row_report(row: int, tokens: Sequence[InspectedToken]) -> RowReport:
    dense = [token.rows[0] for token in tokens]
    steps = [token.rows[row] for token in tokens]
    kinds = np.array([token.kind for token in tokens])
    loss = np.array([step.nll - full.nll for step, full in zip(steps, dense, strict=True)])
    report = difficulty_report(
        surprisal=np.array([full.nll for full in dense]),
        entropy=np.array([full.entropy for full in dense]),
        kinds=kinds.tolist(),
        spend=np.array([[step.action.as_tuple() for step in steps]], dtype=np.float64),
        kl=np.array([[step.kl for step in steps]]),
    )
    # Steps that got less than everything and lost more than noise, the largest loss first.
    worst = [
        tokens[at]
        for at in np.argsort(-loss, kind="stable").tolist()
        if loss[at] > noise_floor(steps[at].action) > 0
    ]
    return RowReport(
        name=steps[0].name,
        correlation=report["correlation"],
        kinds=tuple(
            KindSpend(
                kind, int((kinds == kind).sum()), **means, loss=float(loss[kinds == kind].mean())
            )
            for kind, means in report["kinds"].items()
        ),
        under_served=tuple(_place(token, row) for token in worst[:LISTED]),
        over_served=_over_served(row, tokens),
    )


def _over_served(row: int, tokens: Sequence[InspectedToken]) -> tuple[TokenPlace, ...]:
    """Steps on which another row spent less at no harm, the largest difference first."""
    shifts = []
    for token in tokens:
        spent = _net(token.rows[row])
        # Dense is harmless by definition and never cheaper; it takes no part.
        harmless = [
            (_net(step), other)
            for other, step in enumerate(token.rows)
            if other not in (0, row) and _is_harmless(step) and _net(step) < spent - 1e-9
        ]
        if harmless:
            spend, other = min(harmless)
            shifts.append((spent - spend, token, other))
    shifts.sort(key=lambda entry: -entry[0])
    return tuple(_place(token, row, token.rows[other]) for _, token, other in shifts[:LISTED])


def _is_harmless(step: InspectedRow) -> bool:
    return step.kl <= HARMLESS_KL and step.action.bit_width >= FEWEST_BITS


def _place(token: InspectedToken, row: int, cheaper: InspectedRow | None = None) -> TokenPlace:
    step, dense = token.rows[row], token.rows[0]
    return TokenPlace(
        index=token.index,
        text=token.text,
        nll=step.nll,
        kl=step.kl,
        loss=step.nll - dense.nll,
        entropy=dense.entropy,
        spend=_net(step),
        cheaper="" if cheaper is None else cheaper.name,
        cheaper_spend=None if cheaper is None else _net(cheaper),
        cheaper_kl=None if cheaper is None else cheaper.kl,
    )


def _net(step: InspectedRow) -> float:
    return step.action.net_keep_rate
