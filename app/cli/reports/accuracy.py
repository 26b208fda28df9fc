"""The result of the tasks as a table for the terminal."""

from __future__ import annotations

from typing import Any

__all__ = ["tasks_table"]


def tasks_table(result: dict[str, Any]) -> str:
    """Accuracy of every task at every budget, spend beside it."""
    lines = [f"{result['policy']} on {result['model']}, accuracy in % (95 % interval)"]
    for task in result["tasks"]:
        dense = task["dense"]["accuracy"]
        lines += [
            "",
            f"{task['task']}: {task['questions']} questions, chance {100 * task['chance']:.1f}, "
            f"dense {_percent(dense)}",
            f"  {'asked':>15} {'spent':>18}  {'policy':>19}  {'static':>19}  "
            f"{'gain, points':>21}  gain, NLL",
        ]
        lines += [_line(budget) for budget in task["budgets"]]
    summary = result["summary"]
    mean, nll, best = summary["mean_gain"], summary["mean_nll_gain"], summary["best"]
    lines += [
        "",
        f"mean gain over static {_points(mean)} points of accuracy over {summary['pairs']} pairs "
        f"of task and budget: better on {summary['better']}, interval above 0 on "
        f"{summary['above']}, below on {summary['below']}",
        f"best gain {_points(best['gain'])} points ({best['task']}, {_axes(best['requested'])}), "
        f"chosen among {summary['pairs']}",
        f"mean gain in the right answers' NLL {_nats(nll)} nats per token",
    ]
    return "".join(f"{line}\n" for line in lines)


def _line(budget: dict[str, Any]) -> str:
    policy, static = budget["methods"]["policy"], budget["methods"]["static"]
    return (
        f"  {_axes(budget['requested']):>15} {_axes(policy['spend']):>18}  "
        f"{_percent(policy['accuracy']):>19}  {_percent(static['accuracy']):>19}  "
        f"{_points(budget['gain']):>21}  {_nats(budget['nll_gain'])}"
    )


def _points(gain: dict[str, float]) -> str:
    low, high = 100 * gain["low"], 100 * gain["high"]
    return f"{100 * gain['mean']:+.1f} ({low:+.1f} to {high:+.1f})"


def _nats(gain: dict[str, float]) -> str:
    return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"


def _percent(interval: dict[str, float]) -> str:
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['mean']:.1f} ({low:.1f} to {high:.1f})"


def _axes(spend: dict[str, float]) -> str:
    return f"{spend['keep']:.3g}, {spend['channels']:.3g}, {spend['bits']:.3g}"
