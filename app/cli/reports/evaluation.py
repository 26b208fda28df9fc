"""An evaluation's result as a table for the terminal."""

from __future__ import annotations

from typing import Any

from app.cli.terminal import table
from app.results.figures import budget_label
from sol_core.actions import SHORT_AXES

_FIRST = ("policy", "dense", "static")
_GAIN, _KL_GAIN = ("gain", "low", "high"), ("kl_gain", "kl_low", "kl_high")


def as_table(result: dict[str, Any]) -> str:
    """Every budget with its methods, spend beside each number."""
    lines = [
        f"{result.get('policy', 'policy')} on {result.get('corpus', '?')}: "
        f"{result.get('scored_tokens', '?')} tokens after {result.get('context', '?')}, "
        "nats per token"
    ]
    for budget in result["budgets"]:
        asked = budget["requested"]
        # Results of before there was an axis lack it, and those by share ask for none.
        axes = [name for name in SHORT_AXES if name in budget["methods"]["policy"]["spend"]]
        by_share = "share" in asked
        read, better = (("bytes", "MB"), "in KL ") if by_share else ((), "")
        head = ("  method", "NLL", "KL", *read, *axes, f"policy is better {better}by (95 %)")
        rows = [_cells(budget, method, row) for method, row in _methods(budget)]
        sides = f"<{'>' * (len(head) - 2)}<"
        lines += ["", f"budget  {budget_label(asked)}", *table(head, rows, sides)]
        if by_share:
            off = budget["adherence"]["gap"]["share"]
            lines.append(f"  the policy read {100 * off:+.2f} points of the bytes asked for")
    measured_on = result.get("mixes_measured_on")
    if measured_on not in (None, result.get("model")):
        lines.append(f"shares were spent by the damage measured on {measured_on}")
    return "".join(f"{line}\n" for line in lines)


def _methods(budget: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    methods: dict[str, dict[str, Any]] = budget["methods"]
    order = [name for name in _FIRST if name in methods]
    return [(name, methods[name]) for name in [*order, *(m for m in methods if m not in order)]]


def _cells(budget: dict[str, Any], method: str, row: dict[str, Any]) -> tuple[str, ...]:
    spend = row["spend"]
    by_share = "share" in budget["requested"]
    read: tuple[str, ...] = ()
    if by_share:
        read = (f"{100 * row['bytes_share']:.1f} %", f"{row['bytes_per_token'] / 1e6:.1f}")
    axes = (f"{spend[name]:.3f}" for name in SHORT_AXES if name in spend)
    better = ""
    if (paired := budget.get("paired", {}).get(method)) is not None:
        gain, low, high = (paired[name] for name in (_KL_GAIN if by_share else _GAIN))
        better = f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"
    losses = _number(row.get("nll")), _number(row.get("kl"))
    return f"  {method}", *losses, *read, *axes, better


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
