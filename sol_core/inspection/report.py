"""Reports spend against difficulty, and verdicts, from an inspection.

Only levels that some row took are considered. A token counts as over-served if another row spent
less on it without harm. A loss includes the effect of earlier compressed steps on the row's cache.
The noise floor of compressed steps is measured on the default model (``launch.py bench noise``):
two computations of one schedule that differ in the last bit choose some other pages and channels,
and later layers and steps amplify that.

The first verdict names schedules that break the text, or says that all stay with the full model.
Others compare each schedule with static, or with the first; a painted one with every other. If
static read more or less than a row, the row is compared with static scored at the row's bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sol_core.actions import SHORT_AXES, Action
from sol_core.config import POLICY_PREFIX
from sol_core.corpus.token_kinds import KINDS
from sol_core.evaluation.statistics import Values, rank_correlation
from sol_core.inspection import records
from sol_core.inspection.records import (
    InspectedRow,
    InspectedToken,
    ListedToken,
    MatchedStatic,
    RowTotals,
)
from sol_core.reporting.verdict import (
    BROKEN_KL,
    ENOUGH_TOKENS,
    SAME_KL,
    Verdict,
    block_interval,
    left_to_static_verdict,
    method_name,
    verdict_of,
    within,
)

HARMLESS_KL = 0.01  # nats; a step this close to dense needed no more
LISTED = 10  # most entries of a list
# By least bits: change of NLL that 95 % of tokens stay within, nats, at 0.3 of the attention and
# 0.7 of the MLP; the larger of float32 and bfloat16, with a scale per token. A scale per 32
# channels halves that of 5 bits (0.99).
NLL_FLOOR = {5: 1.84, 6: 1.18, 7: 0.71, 16: 0.65}
# With at least this many bits, 95 % of tokens whose KL is at most 0.01 in one computation stay
# below 0.03 in another; with fewer, some reach 0.23, or 0.033 with a scale per 32 channels.
FEWEST_BITS = 6
STATIC, PAINTED = "static", "painted"


def noise_floor(action: Action) -> float:
    """Bound the change of a token's NLL in another computation of its step, nats; 0 if dense."""
    if action.is_dense:
        return 0.0
    return NLL_FLOOR[max((bits for bits in NLL_FLOOR if bits <= action.bit_width), default=5)]


def difficulty(tokens: Sequence[InspectedToken]) -> records.DifficultyReport:
    """Report on one or more tokens."""
    by_surprisal = sorted(tokens, key=lambda token: -token.rows[0].nll)
    return records.DifficultyReport(
        least_confident=tuple(_listed(token, 0) for token in by_surprisal[:LISTED]),
        rows=tuple(_row_report(row, tokens) for row in range(1, len(tokens[0].rows))),
    )


def _row_report(row: int, tokens: Sequence[InspectedToken]) -> records.RowReport:
    dense = [token.rows[0] for token in tokens]
    steps = [token.rows[row] for token in tokens]
    loss = np.array([step.nll - full.nll for step, full in zip(steps, dense, strict=True)])
    measures = {
        "surprisal": np.array([full.nll for full in dense]),
        "entropy": np.array([full.entropy for full in dense]),
    }
    spend = np.array([step.action.as_tuple() for step in steps], dtype=np.float64)
    # Compressed steps that lost more than noise, largest loss first.
    worst = [
        tokens[at]
        for at in np.argsort(-loss, kind="stable").tolist()
        if loss[at] > noise_floor(steps[at].action) > 0
    ]
    return records.RowReport(
        name=steps[0].name,
        correlation={
            axis: {name: rank_correlation(levels, values) for name, values in measures.items()}
            for axis, levels in zip(SHORT_AXES, spend.T, strict=True)
        },
        kinds=_spend_by_kind(tokens, spend, np.array([step.kl for step in steps]), loss),
        under_served=tuple(_listed(token, row) for token in worst[:LISTED]),
        over_served=_over_served(row, tokens),
    )


def _spend_by_kind(
    tokens: Sequence[InspectedToken],
    spend: Values,  # [N, axes]
    kl: Values,  # kl, loss: [N] nats
    loss: Values,
) -> tuple[records.KindSpend, ...]:
    """Average over the tokens of each kind that occurs."""
    of_tokens, made = np.array([token.kind for token in tokens]), []
    for kind in KINDS:
        chosen = of_tokens == kind
        if chosen.any():
            means = map(float, (*spend[chosen].mean(0), kl[chosen].mean(), loss[chosen].mean()))
            made.append(records.KindSpend(kind, int(chosen.sum()), float(chosen.mean()), *means))
    return tuple(made)


def _over_served(row: int, tokens: Sequence[InspectedToken]) -> tuple[ListedToken, ...]:
    """List steps on which another row spent less without harm, largest difference first."""
    shifts = []
    for token in tokens:
        spent = token.rows[row].action.net_keep_rate
        # Dense is never cheaper.
        harmless = [
            (step.action.net_keep_rate, other)
            for other, step in enumerate(token.rows)
            if other not in (0, row)
            and step.kl <= HARMLESS_KL
            and step.action.bit_width >= FEWEST_BITS
            and step.action.net_keep_rate < spent - 1e-9
        ]
        if harmless:
            spend, other = min(harmless)
            shifts.append((spent - spend, token, other))
    shifts.sort(key=lambda entry: -entry[0])
    return tuple(_listed(token, row, token.rows[other]) for _, token, other in shifts[:LISTED])


def _listed(token: InspectedToken, row: int, cheaper: InspectedRow | None = None) -> ListedToken:
    step, dense = token.rows[row], token.rows[0]
    return ListedToken(
        index=token.index,
        text=token.text,
        nll=step.nll,
        kl=step.kl,
        loss=step.nll - dense.nll,
        entropy=dense.entropy,
        spend=step.action.net_keep_rate,
        cheaper="" if cheaper is None else cheaper.name,
        cheaper_spend=None if cheaper is None else cheaper.action.net_keep_rate,
        cheaper_kl=None if cheaper is None else cheaper.kl,
    )


def inspection_verdicts(
    tokens: Sequence[InspectedToken],
    totals: Sequence[RowTotals],  # the full model first
    matched: Sequence[MatchedStatic],
) -> tuple[Verdict, ...]:
    """Judge every row; with too few tokens, return a single verdict that says so."""
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
    again = {row.name: row for row in matched}
    last = [row for row in tokens[-1].rows if row.name.startswith(POLICY_PREFIX)]
    left = {row.name for row in last if not row.policy}
    made = [_text_verdict(totals, shares, len(tokens))]
    for name, other in pairs if len(tokens) >= ENOUGH_TOKENS else pairs[:1]:
        if name in left and other == STATIC:
            made.append(left_to_static_verdict(method_name(name)))
            continue
        lost, share = kl[other], shares[other]
        if other == STATIC and name in again:
            lost, share = list(again[name].kl), again[name].cost.bytes_read / dense
        enough = len(tokens) >= ENOUGH_TOKENS
        gains = [base - own for base, own in zip(lost, kl[name], strict=True)]
        gain = block_interval(gains) if enough else None
        names, spent = (method_name(name), method_name(other)), [(shares[name], share)]
        made.append(verdict_of(*names, [gain], len(tokens), spent=spent))
    return tuple(row for row in made if row is not None)


def _text_verdict(
    totals: Sequence[RowTotals], shares: Mapping[str, float], samples: int
) -> Verdict | None:
    """Name the schedules that break the text, or all if none changes it noticeably."""
    broken = [row for row in totals[1:] if row.kl > BROKEN_KL]
    judged = broken or totals[1:]
    if not broken and (samples < ENOUGH_TOKENS or any(row.kl > SAME_KL for row in judged)):
        return None
    names = [method_name(row.name) for row in judged]
    *first, last = [names[0], *map(within, names[1:])]
    subject = f"{', '.join(first)} and {last}" if first else last
    verb = ("break" if broken else "stay") + ("" if first else "s")
    rest = "this text" if broken else "with the full model"
    digits = 0 if broken else 2
    full, *own = [f"{math.exp(row.nll):,.{digits}f}" for row in (totals[0], *judged)]
    spent = [f"{100 * shares[row.name]:.1f}" for row in judged]
    own, spent = (list(dict.fromkeys(each)) for each in (own, spent))
    words = f": perplexity {' and '.join(own)} against the full model's {full}"
    words += f", at {' and '.join(spent)} % of the bytes."
    return Verdict("bad" if broken else "good", f"{subject} {verb} {rest}", words)
