"""Results of an evaluation and of the tasks as tables for the terminal."""

from __future__ import annotations

from functools import partial
from typing import Any

from app.cli.terminal import table
from app.results.figures import budget_label
from sol_core.actions import SHORT_AXES

Gain = dict[str, float] | None
_SCORED = (
    *("  asked", "method", "spent", "MB a token", "accuracy", "margin"),
    *("over static, points", "over static, margin"),
)
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


def tasks_table(result: dict[str, Any]) -> str:
    """Every method on every task at every budget, spend beside it."""
    lines = [
        f"{result['policy']} ({result['grid']} grid) on {result['model']}, accuracy in %, "
        "margins in nats per byte (95 % interval)"
    ]
    for task in result["tasks"]:
        chance = f"chance {100 * task['chance']:.1f}"
        title = f"{task['task']}: {task['questions']} questions, {chance}"
        lines += ["", *_scored(title, task), *_recalled(task)]
    for pooled in result["pooled"]:
        title = f"{', '.join(pooled['tasks'])}: {pooled['questions']} questions together"
        lines += ["", *_scored(title, pooled)]
    summary = result["summary"]
    mean, nll, best = summary["mean_gain"], summary["mean_nll_gain"], summary["best"]
    lines += [
        "",
        f"mean gain over static {_points(mean)} points of accuracy over {summary['pairs']} pairs "
        f"of task and budget: better on {summary['better']}, interval above 0 on "
        f"{summary['above']}, below on {summary['below']}",
        f"best gain {_points(best['gain'])} points ({best['task']}, "
        f"{budget_label(best['requested'])}), chosen among {summary['pairs']}",
        *([f"mean gain in the right answers' NLL {_nats(nll)} nats per token"] if nll else []),
    ]
    return "".join(f"{line}\n" for line in lines)


def _scored(title: str, scored: dict[str, Any]) -> list[str]:
    rows = []
    for budget in scored["budgets"]:
        gains = _gains_over_static(budget)
        for at, (name, method) in enumerate(budget["methods"].items()):
            points, margin = gains.get(name, (None, None))
            rows.append(
                (
                    "  " if at else f"  {budget_label(budget['requested'])}",
                    name,
                    _spent(budget, method),
                    f"{method['bytes_per_token'] / 1e6:.1f}",
                    _percent(method["accuracy"]),
                    "" if method["margin"] is None else f"{method['margin']['mean']:+.3f}",
                    _points(points),
                    _nats(margin),
                )
            )
    dense = _percent(scored["dense"]["accuracy"])
    return [f"{title}, dense {dense}", *table(_SCORED, rows, "<<>>>>><")]


def _recalled(task: dict[str, Any]) -> list[str]:
    """A line for every method on recall: points over dense, answers written, kinds of question."""
    kinds = task.get("kinds")
    if not kinds:
        return []
    head = ("  ", "", "over dense, points", "wrote the answer, %", *(k["kind"] for k in kinds))
    dense = (f"{100 * kind['dense']:.1f}" for kind in kinds)
    rows = [("  ", "dense", "", _wrote(task["dense"]), *dense)]
    for at, budget in enumerate(task["budgets"]):
        for place, (name, method) in enumerate(budget["methods"].items()):
            asked = "  " if place else f"  {budget_label(budget['requested'])}"
            right = (f"{100 * kind['budgets'][at][name]:.1f}" for kind in kinds)
            rows.append((asked, name, _points(method["over_dense"]), _wrote(method), *right))
    return table(head, rows, f"<<{'>' * (len(head) - 2)}")


def _wrote(method: dict[str, Any]) -> str:
    return _percent(method["written"]["holds"]) if method["written"] else ""


def _gains_over_static(budget: dict[str, Any]) -> dict[str, tuple[Gain, Gain]]:
    """By method: in accuracy, and in the margin."""
    gains: dict[str, tuple[Gain, Gain]] = {"policy": (budget["gain"], budget["margin_gain"])}
    for pair, gain in budget["differences"].items():
        better, worse = pair.split("-")
        if worse == "static":
            gains[better] = (gain["accuracy"], gain["margin"])
        elif better == "static":
            gains[worse] = (_negative(gain["accuracy"]), _negative(gain["margin"]))
    return gains


def _negative(gain: Gain) -> Gain:
    if gain is None:
        return None
    return {"mean": -gain["mean"], "low": -gain["high"], "high": -gain["low"]}


def _interval(value: Gain, form: str, scale: float = 1) -> str:
    """A mean and its 95 % interval; nothing where there is none."""
    if value is None:
        return ""
    mean, low, high = (format(scale * value[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


_points = partial(_interval, form="+.1f", scale=100)
_percent = partial(_interval, form=".1f", scale=100)
_nats = partial(_interval, form="+.3f")


def _spent(budget: dict[str, Any], method: dict[str, Any]) -> str:
    if "share" in budget["requested"]:
        return f"{100 * method['bytes_share']:.1f} %"
    return budget_label(method["spend"])
