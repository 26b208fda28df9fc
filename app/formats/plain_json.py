"""Records as the page wants them: plain, small, finite JSON. No Gradio here, no state.

A token event is about 1.5 kB; the page polls ten times a second, so a row carries short keys,
five significant digits and nothing that the page does not show.
"""

from __future__ import annotations

import math
import sys
from datetime import datetime
from typing import Any

SCHEDULE_LABELS = {
    "policy": "Policy",
    "dense": "Dense",
    "static": "Static",
    "random": "Random",
    "emc": "Uncertainty (EMC)",
    "dac": "Drift (DAC)",
}
STATUS_LABELS = {
    "running": "Running",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
_DIGITS = 5
_TITLE_LENGTH = 80


def finite(value: Any) -> float | None:
    """A number rounded for the page; None for what JSON or a chart cannot show."""
    # A comparison: NaN fails it, and no whole number is too large for it.
    if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        return None
    return float(f"{value:.{_DIGITS}g}")


def json_safe(value: Any) -> Any:
    """The same nested value with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def page_row(event: dict[str, Any]) -> dict[str, Any]:
    """The page's row of a token event (the JSON form of ``TokenEvent``).

    Keys: i index, id token id, t text, a [attention, channels, bits], s surprisal, h entropy,
    top [[id, text, probability]], kl KL to dense, side [{n name, a, s, h, kl}], ms step time, at
    time since the start, f and df computed FLOPs of the step and of a dense one, b and db bytes
    read, n cached tokens, r whether the cache was refreshed, p the policy's probability of every
    level per axis in whole per mille (None for other schedules and for runs saved without it),
    pm measured ms of attention, MLP, head, policy and rest (None for runs saved without them).
    """
    cost, dense = event["cost"], event["dense_cost"]
    return {
        "i": event["index"],
        "id": event["token_id"],
        "t": event["text"],
        "a": action_values(event["action"]),
        "s": finite(event["surprisal"]),
        "h": finite(event["entropy"]),
        "top": [[top["token_id"], top["text"], finite(top["probability"])] for top in event["top"]],
        "kl": finite(event["kl_to_dense"]),
        "side": [_side_row(side) for side in event["side"]],
        "ms": finite(event["step_ms"]),
        "at": finite(event["elapsed_ms"]),
        "f": finite(cost["flops"]),
        "df": finite(dense["flops"]),
        "b": finite(cost["bytes_read"]),
        "db": finite(dense["bytes_read"]),
        "n": event["cached_tokens"],
        "r": bool(event["refreshed"]),
        "p": per_mille(event.get("policy")),
        "pm": _part_times(event.get("parts_ms")),
    }


def run_title(prompt: str) -> str:
    """The prompt's beginning on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rstrip() + "…"


def budget_text(config: dict[str, Any]) -> str:
    """Return a run's budget on one line: "attention 50 %, channels 70 %, 10 bits".

    The schedules of an inspection share one budget.
    """
    schedules = config.get("schedules")
    if schedules is not None:
        schedule = schedules[0] if schedules else {"kind": "dense"}
    else:
        schedule = config.get("schedule", {})
    budget = schedule.get("budget")
    if schedule.get("kind") == "dense" or not isinstance(budget, dict):
        return "everything"
    return (
        f"attention {100 * budget['keep_fraction']:.4g} %, "
        f"channels {100 * budget['channel_keep_ratio']:.4g} %, {budget['bit_width']:.4g} bits"
    )


def schedule_label(kind: str, config: dict[str, Any]) -> str:
    """A run's schedule in words; of a policy with its name, of a folder with its last part.

    Of an inspection all of its schedules.
    """
    if (schedules := config.get("schedules")) is not None:
        others = [_schedule_words(one.get("kind", ""), one.get("policy")) for one in schedules]
        return "Inspected: " + ", ".join(["Dense", *others])
    return _schedule_words(kind, config.get("schedule", {}).get("policy"))


def _schedule_words(kind: str, policy: str | None) -> str:
    if kind == "policy" and policy:
        return f"Policy {str(policy).rstrip('/').rpartition('/')[2]}"
    return SCHEDULE_LABELS.get(kind, kind)


def iso(moment: datetime) -> str:
    """ISO 8601 with the offset, which the browser turns into local time."""
    return moment.isoformat(timespec="seconds")


def action_values(action: dict[str, Any]) -> list[float | None]:
    """[attention, channels, bits] of an action's or a budget's JSON."""
    return [finite(action[axis]) for axis in ("keep_fraction", "channel_keep_ratio", "bit_width")]


def per_mille(policy: list[list[float | None]] | None) -> list[list[int]] | None:
    """35 numbers a row at a third of the bytes; the page shows no more digits."""
    if policy is None:
        return None
    return [[round(1000 * (value or 0.0)) for value in axis] for axis in policy]


def _part_times(parts: dict[str, float] | None) -> list[float] | None:
    """Whole microseconds: the rest would be noise."""
    if parts is None:
        return None
    return [round(parts[part], 3) for part in ("attention", "mlp", "head", "policy", "rest")]


def _side_row(side: dict[str, Any]) -> dict[str, Any]:
    return {
        "n": side["name"],
        "a": action_values(side["action"]),
        "s": finite(side["surprisal"]),
        "h": finite(side["entropy"]),
        "kl": finite(side["kl_to_dense"]),
    }
