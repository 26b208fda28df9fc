"""The result of the tasks as the page draws it: plain data, no Plotly, no colours."""

from __future__ import annotations

from typing import Any

from app.formats import verdict_record
from app.results.figures import budget_label
from sol_core.reporting.verdict import MEASURES, gain_of, tasks_verdict

# Of each task its label and what it asks.
TASKS = {
    "arc_easy": ("ARC easy", "school science questions"),
    "hellaswag": ("HellaSwag", "how a scene goes on"),
    "piqa": ("PIQA", "everyday physics"),
    "winogrande": ("WinoGrande", "whom a pronoun means"),
    "lambada": ("LAMBADA", "the last word of a passage"),
    "mmlu": ("MMLU", "exam questions, answered in full"),
}


def accuracy_view(result: dict[str, Any]) -> dict[str, Any]:
    """A result of the tasks as its page draws it."""
    names = ("policy", "model", "limit", "seed", "elapsed_s")
    return {
        "about": {name: result.get(name) for name in names} | {"asked": _asked(result)},
        "tasks": [
            _scored(task)
            | {"name": task["task"], "label": _label(task["task"]), "chance": task["chance"]}
            for task in result["tasks"]
        ],
        "pooled": [
            _scored(group)
            | {"name": "pooled", "label": _labels(group["tasks"], result), "chance": None}
            for group in result.get("pooled", ())
        ],
        "verdict": verdict_record(tasks_verdict(result)),
    }


def _asked(result: dict[str, Any]) -> str:
    """Number of tasks and questions: "2 of the 6 tasks, 50 questions each"."""
    tasks, limit = result["tasks"], result.get("limit")
    most = "" if all(task["questions"] == limit for task in tasks) else "at most "
    return f"{len(tasks)} of the {len(TASKS)} tasks, {most}{limit} questions each"


def _labels(names: list[str], result: dict[str, Any]) -> str:
    """The tasks whose questions are taken together, by name where they are not all."""
    return "All questions" if len(names) == len(result["tasks"]) else " + ".join(map(_label, names))


def _scored(scored: dict[str, Any]) -> dict[str, Any]:
    """Points of every method for the figure, and rows for the table."""
    points: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for budget in scored["budgets"]:
        label = budget_label(budget["requested"])
        methods = {
            name: _point(method, scored["dense"]) for name, method in budget["methods"].items()
        }
        for name, point in methods.items():
            points.setdefault(name, []).append(point | {"label": label})
        rows.append(
            {
                "label": label,
                "gain": budget["gain"],
                "nll_gain": budget.get("nll_gain"),  # none in schema 1
                "kinds": _kinds(budget, scored["questions"]),
                "methods": methods,
            }
        )
    about = {"questions": scored["questions"], "dense": _point(scored["dense"], scored["dense"])}
    return about | {"points": points, "rows": rows}


def _kinds(budget: dict[str, Any], questions: int) -> dict[str, str]:
    """Kind of verdict of each gain of a budget by itself."""
    kinds: dict[str, str] = {}
    for name in ("gain", "nll_gain"):
        gain = budget.get(name) or {}
        interval = gain_of(*(gain.get(part) for part in ("mean", "low", "high")))
        kinds[name] = MEASURES["accuracy"].kind(interval, questions)
    return kinds


def _point(method: dict[str, Any], dense: dict[str, Any]) -> dict[str, Any]:
    read, whole = (scores.get("bytes_per_token") for scores in (method, dense))
    return {
        "net": method["net_keep_rate"],
        "share": read / whole if read and whole else None,
        "spend": method["spend"],
        "bytes_per_token": method.get("bytes_per_token"),
        **method["accuracy"],
    }


def _label(name: str) -> str:
    return TASKS[name][0] if name in TASKS else name
