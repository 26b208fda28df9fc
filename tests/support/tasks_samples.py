"""The result of the tasks as the engine makes it, for the pages' tests."""

from __future__ import annotations

from typing import Any

__all__ = ["tasks_result"]

_ASKED = ((0.7, 0.8, 16.0), (0.5, 0.7, 12.8), (0.4, 0.6, 9.0))
_TASKS = (("arc_easy", 0.25, 0.55), ("piqa", 0.5, 0.68), ("mmlu", 0.25, 0.27))


def tasks_result(policy: str = "default") -> dict[str, Any]:
    """A result of schema 2 in which the policy is ahead by more the harsher the budget is."""
    tasks = [_task(name, chance, dense) for name, chance, dense in _TASKS]
    gains = [budget["gain"]["mean"] for task in tasks for budget in task["budgets"]]
    return {
        "schema": 2,
        "policy": policy,
        "model": "fake-model",
        "fingerprint": "0" * 16,
        "limit": 500,
        "seed": 0,
        "elapsed_s": 1800.0,
        "tasks": tasks,
        "summary": {
            "mean_gain": {"mean": sum(gains) / len(gains), "low": 0.004, "high": 0.025},
            "mean_nll_gain": {"mean": 0.061, "low": 0.052, "high": 0.07},
            "pairs": len(gains),
            "better": sum(gain > 0 for gain in gains),
            "above": 3,
            "below": 0,
            "best": {
                "task": "arc_easy",
                "requested": tasks[0]["budgets"][-1]["requested"],
                "gain": tasks[0]["budgets"][-1]["gain"],
            },
        },
    }


def _task(name: str, chance: float, dense: float) -> dict[str, Any]:
    budgets = []
    for at, asked in enumerate(_ASKED):
        lost, gain = (0.02, 0.07, 0.16)[at] * (dense - chance) * 3, (-0.002, 0.012, 0.034)[at]
        spend = (asked[0] + 0.01, asked[1] - 0.005, asked[2])
        budgets.append(
            {
                "requested": _axes(asked),
                "methods": {
                    "policy": _method(dense - lost + gain, spend),
                    "static": _method(dense - lost, spend),
                },
                "gain": {"mean": gain, "low": gain - 0.02, "high": gain + 0.02},
                "nll_gain": {"mean": gain * 4, "low": gain * 4 - 0.03, "high": gain * 4 + 0.03},
            }
        )
    return {
        "task": name,
        "questions": 500,
        "steps": 4000,
        "chance": chance,
        "dense": _method(dense, (1.0, 1.0, 16.0)),
        "budgets": budgets,
    }


def _method(accuracy: float, spend: tuple[float, ...]) -> dict[str, Any]:
    return {
        "accuracy": {"mean": accuracy, "low": accuracy - 0.04, "high": accuracy + 0.04},
        "answer_nll": 3.0 - accuracy,
        "spend": _axes(spend),
        "net_keep_rate": (spend[0] + spend[1] + spend[2] / 16) / 3,
    }


def _axes(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(("keep", "channels", "bits"), values, strict=True))
