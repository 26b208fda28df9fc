"""An evaluation's result as a table for the terminal."""

from __future__ import annotations

from typing import Any

from app.cli.terminal import table
from app.results.figures import budget_label
from sol_core.actions import SHORT_AXES

_FIRST = ("dense", "static")


def as_table(result: dict[str, Any]) -> str:
    """Every budget with its methods, spend beside each number."""
    lines = [
        f"{result.get('policy', 'policy')} on {result.get('corpus', '?')}: "
        f"{result.get('scored_tokens', '?')} tokens after {result.get('context', '?')}, "
        "nats per token"
    ]
    first = result["policy"]
    for budget in result["budgets"]:
        asked = budget["requested"]
        methods = _methods(budget, first)
        # Results of before there was an axis lack it, and those by share ask for none.
        axes = [name for name in SHORT_AXES if name in methods[0][1]["spend"]]
        by_share = "share" in asked
        read = ("bytes", "MB") if by_share else ()
        better = (f"{first} is better in NLL by (95 %)", "in KL by (95 %)")
        head = ("  method", "NLL", "KL", *read, *axes, *better)
        rows = [_cells(budget, method, row) for method, row in methods]
        sides = f"<{'>' * (len(head) - 3)}<<"
        lines += ["", f"budget  {budget_label(asked)}", *table(head, rows, sides)]
        if by_share:
            off = budget["adherence"]["gap"]["share"]
            lines.append(f"  {first} read {100 * off:+.2f} points of the bytes asked for")
    measured_on = result.get("mixes_measured_on")
    if measured_on not in (None, result.get("model")):
        lines.append(f"shares were spent by the damage measured on {measured_on}")
    return "".join(f"{line}\n" for line in lines)


def _methods(budget: dict[str, Any], first: str) -> list[tuple[str, dict[str, Any]]]:
    methods: dict[str, dict[str, Any]] = budget["methods"]
    order = [name for name in (first, "policy", *_FIRST) if name in methods]
    return [(name, methods[name]) for name in [*order, *(m for m in methods if m not in order)]]


def _cells(budget: dict[str, Any], method: str, row: dict[str, Any]) -> tuple[str, ...]:
    spend = row["spend"]
    read: tuple[str, ...] = ()
    if "share" in budget["requested"]:
        read = (f"{100 * row['bytes_share']:.1f} %", f"{row['bytes_per_token'] / 1e6:.1f}")
    axes = (f"{spend[name]:.3f}" for name in SHORT_AXES if name in spend)
    paired = budget.get("paired", {}).get(method)
    better = ("", "") if paired is None else (_better(paired, "nll"), _better(paired, "kl"))
    losses = _number(row.get("nll")), _number(row.get("kl"))
    return f"  {method}", *losses, *read, *axes, *better


def _better(paired: dict[str, Any], loss: str) -> str:
    gain, low, high = (paired[f"{loss}_{part}"] for part in ("gain", "low", "high"))
    if paired[f"{loss}_verdict"] not in ("better", "worse"):
        return f"{paired[f'{loss}_verdict']} ({gain:+.4f})"
    return f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
