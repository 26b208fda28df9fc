"""A benchmark's result as a table for the terminal."""

from __future__ import annotations

from typing import Any

__all__ = ["benchmark_table"]


def benchmark_table(result: dict[str, Any]) -> str:
    """Accuracy of every task at every budget, spend beside it."""
    lines = [f"{result['policy']} on {result['model']}, accuracy in % (95 % interval)"]
    for task in result["tasks"]:
        dense = task["dense"]["accuracy"]
        lines += [
            "",
            f"{task['task']}: {task['questions']} questions, chance {100 * task['chance']:.1f}, "
            f"dense {_percent(dense)}",
            f"  {'asked':>15} {'spent':>18}  {'policy':>19}  {'static':>19}  gain, points",
        ]
        lines += [_line(budget) for budget in task["budgets"]]
    summary = result["summary"]
    if summary is not None:
        best = summary["best"]
        lines += [
            "",
            f"mean gain over static {100 * summary['mean_gain']:+.2f} points over "
            f"{summary['pairs']} pairs of task and budget, better on {summary['better']}; best "
            f"{100 * best['gain']['mean']:+.1f} ({best['task']}, {_axes(best['requested'])})",
        ]
    return "".join(f"{line}\n" for line in lines)


def _line(budget: dict[str, Any]) -> str:
    methods, gain = budget["methods"], budget.get("gain")
    text = (
        f"  {_axes(budget['requested']):>15} {_axes(methods['policy']['spend']):>18}  "
        f"{_percent(methods['policy']['accuracy']):>19}"
    )
    if gain is None:
        return text
    change = f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    return f"{text}  {_percent(methods['static']['accuracy']):>19}  {change}"


def _percent(interval: dict[str, float]) -> str:
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['mean']:.1f} ({low:.1f} to {high:.1f})"


def _axes(spend: dict[str, float]) -> str:
    return f"{spend['keep']:.3g}, {spend['channels']:.3g}, {spend['bits']:.3g}"
