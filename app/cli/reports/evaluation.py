"""An evaluation's result as a table for the terminal."""

from __future__ import annotations

from typing import Any

from sol_core.actions import SHORT_AXES

_FIRST = ("policy", "dense", "static")


def as_table(result: dict[str, Any]) -> str:
    """Every budget with its methods, spend beside each number."""
    lines = [
        f"{result.get('policy', 'policy')} on {result.get('corpus', '?')}: "
        f"{result.get('scored_tokens', '?')} tokens, nats per token"
    ]
    for budget in result["budgets"]:
        asked = budget["requested"]  # results of before there was an axis lack it
        axes = [name for name in SHORT_AXES if name in asked]
        lines += [
            "",
            f"budget  {'  '.join(f'{name} {asked[name]:g}' for name in axes)}",
            f"  {'method':14} {'NLL':>8} {'KL':>8}  {' '.join(f'{name:>8}' for name in axes)}"
            "   policy is better by (95 %)",
        ]
        lines += [_line(budget, method, row) for method, row in _methods(budget)]
    return "".join(f"{line}\n" for line in lines)


def _methods(budget: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    methods: dict[str, dict[str, Any]] = budget["methods"]
    order = [name for name in _FIRST if name in methods]
    return [(name, methods[name]) for name in [*order, *(m for m in methods if m not in order)]]


def _line(budget: dict[str, Any], method: str, row: dict[str, Any]) -> str:
    spend = row["spend"]
    text = f"  {method:14} {_number(row.get('nll')):>8} {_number(row.get('kl')):>8}  " + " ".join(
        f"{spend[name]:8.3f}" for name in SHORT_AXES if name in spend
    )
    paired = budget.get("paired", {}).get(method)
    if paired is None:
        return text
    return f"{text}   {paired['gain']:+.4f} ({paired['low']:+.4f} to {paired['high']:+.4f})"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
