"""An evaluation's result as a table for the terminal."""

from __future__ import annotations

from typing import Any

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
        read, better = "", "   policy is better by (95 %)"
        if "share" in asked:
            read, better = f" {'bytes':>7} {'MB':>7}", "   policy is better in KL by (95 %)"
        lines += [
            "",
            f"budget  {_asked(asked)}",
            f"  {'method':14} {'NLL':>8} {'KL':>8} {read} {' '.join(f'{name:>8}' for name in axes)}"
            f"{better}",
        ]
        lines += [_line(budget, method, row) for method, row in _methods(budget)]
        if "share" in asked:
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


def _line(budget: dict[str, Any], method: str, row: dict[str, Any]) -> str:
    spend = row["spend"]
    by_share = "share" in budget["requested"]
    read = ""
    if by_share:
        read = f" {100 * row['bytes_share']:>5.1f} % {row['bytes_per_token'] / 1e6:>7.1f}"
    text = (
        f"  {method:14} {_number(row.get('nll')):>8} {_number(row.get('kl')):>8} {read} "
        + " ".join(f"{spend[name]:8.3f}" for name in SHORT_AXES if name in spend)
    )
    paired = budget.get("paired", {}).get(method)
    if paired is None:
        return text
    gain, low, high = (paired[name] for name in (_KL_GAIN if by_share else _GAIN))
    return f"{text}   {gain:+.4f} ({low:+.4f} to {high:+.4f})"


def _asked(requested: dict[str, float]) -> str:
    if "share" in requested:
        return f"{100 * requested['share']:g} % of the full model's bytes"
    return "  ".join(f"{name} {requested[name]:g}" for name in SHORT_AXES if name in requested)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
