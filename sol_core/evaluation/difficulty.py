"""Spend against how hard a token is: correlation with surprisal and entropy, and by kind.

A decode step feeds one token and predicts the next; what the step spent is set against
the token it predicts, and against how hard the *dense* model finds that token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sol_core.actions import SHORT_AXES
from sol_core.comparing.statistics import Values, rank_correlation
from sol_core.comparing.token_kinds import KINDS


@dataclass(frozen=True, slots=True)
class DifficultyData:
    """Per scored token; N texts × T steps, flattened to M.

    Attributes:
        surprisal, entropy: [M] nats, of the dense model.
        kinds: [M], one of ``KINDS`` each.
        spend: [budgets, M, axes], the policy's.
        kl: [budgets, M] nats, the policy's.
    """

    surprisal: Values
    entropy: Values
    kinds: Sequence[str]
    spend: NDArray[np.float64]
    kl: NDArray[np.float64]


def difficulty_report(data: DifficultyData) -> dict[str, object]:
    """``{"correlation": {AXIS: {"surprisal", "entropy"}}, "kinds": {KIND: {...}}}``.

    Correlations are Spearman's, within each budget, then averaged over the budgets, so
    that a budget's level plays no part. Kinds give their share of tokens and means over
    tokens and budgets: spend per axis and the policy's KL to dense. Kinds that never
    occur are left out.
    """
    measures = {"surprisal": data.surprisal, "entropy": data.entropy}
    correlation = {
        axis: {
            name: float(
                np.mean([rank_correlation(spend[:, index], values) for spend in data.spend])
            )
            for name, values in measures.items()
        }
        for index, axis in enumerate(SHORT_AXES)
    }
    labels = np.asarray(data.kinds)
    kinds = {}
    for kind in KINDS:
        chosen = labels == kind
        if not chosen.any():
            continue
        means = data.spend[:, chosen].mean(axis=(0, 1))
        kinds[kind] = {
            "share": float(chosen.mean()),
            **{axis: float(mean) for axis, mean in zip(SHORT_AXES, means, strict=True)},
            "kl": float(data.kl[:, chosen].mean()),
        }
    return {"correlation": correlation, "kinds": kinds}
