"""The result of the tasks as the page draws it: plain data, no Plotly, no colours."""

from __future__ import annotations

from typing import Any

__all__ = ["TASK_LABELS", "TASK_MEANINGS", "accuracy_view"]

TASK_LABELS = {
    "arc_easy": "ARC easy",
    "hellaswag": "HellaSwag",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "lambada": "LAMBADA",
    "mmlu": "MMLU",
}
TASK_MEANINGS = {
    "arc_easy": "school science questions",
    "hellaswag": "how a scene goes on",
    "piqa": "everyday physics",
    "winogrande": "whom a pronoun means",
    "lambada": "the last word of a passage",
    "mmlu": "exam questions, answered by letter",
}


def accuracy_view(result: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows of a result."""
    names = ("policy", "model", "limit", "seed", "elapsed_s")
    return {
        "about": {name: result.get(name) for name in names},
        "tasks": [_task(task) for task in result["tasks"]],
        "summary": _summary(result["summary"]),
    }


def _task(task: dict[str, Any]) -> dict[str, Any]:
    methods: dict[str, list[dict[str, Any]]] = {"policy": [], "static": []}
    rows = []
    for budget in task["budgets"]:
        label = _budget_label(budget["requested"])
        for name, points in methods.items():
            points.append(_point(budget["methods"][name]) | {"label": label})
        rows.append(
            {
                "label": label,
                "gain": budget["gain"],
                "nll_gain": budget.get("nll_gain"),  # none in schema 1
                **{name: _point(method) for name, method in budget["methods"].items()},
            }
        )
    return {
        "name": task["task"],
        "label": TASK_LABELS.get(task["task"], task["task"]),
        "questions": task["questions"],
        "chance": task["chance"],
        "dense": _point(task["dense"]),
        "points": methods,
        "rows": rows,
    }


def _point(method: dict[str, Any]) -> dict[str, Any]:
    return {
        "net": method["net_keep_rate"],
        "spend": method["spend"],
        **method["accuracy"],
    }


def _summary(summary: dict[str, Any]) -> dict[str, Any]:
    best, mean = summary["best"], summary["mean_gain"]
    return summary | {
        "mean_gain": mean if isinstance(mean, dict) else {"mean": mean},  # a number in schema 1
        "best": {
            "task": TASK_LABELS.get(best["task"], best["task"]),
            "label": _budget_label(best["requested"]),
            **best["gain"],
        },
    }


def _budget_label(requested: dict[str, Any]) -> str:
    return f"κ {requested['keep']:g} · ρ {requested['channels']:g} · {requested['bits']:g} bit"
