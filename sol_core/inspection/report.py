"""Report on the compute of an inspected text: tokens that needed more or less than they got.

All of it is read off what was measured: no level is tried that no row took. So a token counts
as over-served only where another row of the inspection really spent less on it and came to no
harm, and a loss holds what earlier compressed steps left in the row's cache as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sol_core.evaluation.difficulty import DifficultyData, difficulty_report
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


def difficulty(names: Sequence[str], tokens: Sequence[InspectedToken]) -> DifficultyReport:
    """The report of an inspection.

    Args:
        names: of the rows, dense first.
        tokens: at least one.
    """
    by_surprisal = sorted(tokens, key=lambda token: -token.rows[0].nll)
    return DifficultyReport(
        least_confident=tuple(_place(token, 0) for token in by_surprisal[:LISTED]),
        rows=tuple(
            _row_report(row, name, names, tokens) for row, name in enumerate(names) if row > 0
        ),
    )


def _row_report(
    row: int, name: str, names: Sequence[str], tokens: Sequence[InspectedToken]
) -> RowReport:
    dense = [token.rows[0] for token in tokens]
    steps = [token.rows[row] for token in tokens]
    kinds = [token.kind for token in tokens]
    loss = np.array([step.nll - full.nll for step, full in zip(steps, dense, strict=True)])
    data = DifficultyData(
        surprisal=np.array([full.nll for full in dense]),
        entropy=np.array([full.entropy for full in dense]),
        kinds=kinds,
        spend=np.array([[step.action.as_tuple() for step in steps]], dtype=np.float64),
        kl=np.array([[step.kl for step in steps]]),
    )
    report = difficulty_report(data)
    return RowReport(
        name=name,
        correlation=report["correlation"],  # type: ignore[arg-type]  # see difficulty_report
        kinds=_kinds(report["kinds"], kinds, loss),  # type: ignore[arg-type]
        under_served=_under_served(row, tokens, loss),
        over_served=_over_served(row, names, tokens),
    )


def _kinds(
    means: dict[str, dict[str, float]], kinds: Sequence[str], loss: NDArray[np.float64]
) -> tuple[KindSpend, ...]:
    labels = np.asarray(kinds)
    return tuple(
        KindSpend(
            kind=kind,
            tokens=int((labels == kind).sum()),
            loss=float(loss[labels == kind].mean()),
            **mean,
        )
        for kind, mean in means.items()
    )


def _under_served(
    row: int, tokens: Sequence[InspectedToken], loss: NDArray[np.float64]
) -> tuple[TokenPlace, ...]:
    """Steps that got less than everything and lost most, the largest loss first."""
    order = np.argsort(-loss, kind="stable")
    worst = [
        tokens[at]
        for at in order.tolist()
        if loss[at] > HARMLESS_KL and not tokens[at].rows[row].action.is_dense
    ]
    return tuple(_place(token, row) for token in worst[:LISTED])


def _over_served(
    row: int, names: Sequence[str], tokens: Sequence[InspectedToken]
) -> tuple[TokenPlace, ...]:
    """Steps on which another row spent less at no harm, the largest difference first."""
    shifts = []
    for token in tokens:
        spent = _net(token.rows[row])
        # Dense is harmless by definition and never cheaper; it takes no part.
        harmless = [
            (_net(step), other)
            for other, step in enumerate(token.rows)
            if other not in (0, row) and step.kl <= HARMLESS_KL and _net(step) < spent - 1e-9
        ]
        if harmless:
            spend, other = min(harmless)
            shifts.append((spent - spend, token, other))
    shifts.sort(key=lambda entry: -entry[0])
    return tuple(_place(token, row, names, other) for _, token, other in shifts[:LISTED])


def _place(
    token: InspectedToken, row: int, names: Sequence[str] = (), cheaper: int | None = None
) -> TokenPlace:
    step, dense = token.rows[row], token.rows[0]
    other = None if cheaper is None else token.rows[cheaper]
    return TokenPlace(
        index=token.index,
        text=token.text,
        nll=step.nll,
        kl=step.kl,
        loss=step.nll - dense.nll,
        entropy=dense.entropy,
        spend=_net(step),
        cheaper="" if cheaper is None else names[cheaper],
        cheaper_spend=None if other is None else _net(other),
        cheaper_kl=None if other is None else other.kl,
    )


def _net(step: InspectedRow) -> float:
    return step.action.net_keep_rate
