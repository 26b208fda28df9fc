"""Records of an inspection as the page wants them: plain, small, finite JSON."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import action_values, finite, per_mille

__all__ = ["page_inspected", "page_inspection_start", "page_inspection_summary"]


def page_inspected(token: dict[str, Any]) -> dict[str, Any]:
    """The page's row of an inspected token (the JSON form of ``InspectedToken``).

    Keys as in ``views.page_row`` where they mean the same: i, id, t, top (of the dense row), n,
    ms, at. Besides: k kind of token, rows [{a action, s surprisal, h entropy, kl, f and b
    computed FLOPs and bytes, p policy}] in the order of the inspection's rows, dense first.
    """
    return {
        "i": token["index"],
        "id": token["token_id"],
        "t": token["text"],
        "k": token["kind"],
        "top": [[top["token_id"], top["text"], finite(top["probability"])] for top in token["top"]],
        "rows": [_row(row) for row in token["rows"]],
        "n": token["cached_tokens"],
        "ms": finite(token["step_ms"]),
        "at": finite(token["elapsed_ms"]),
    }


def page_inspection_start(start: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the page's JSON of the dense pass over the prefix."""
    if start is None:
        return None
    return {
        "tokens": len(start["prefix"]),
        "ids": start["prefix"],
        "text": start["prefix_text"],
        "text_tokens": start["text_tokens"],
        "scored": start["scored_tokens"],
        "ms": finite(start["elapsed_ms"]),
    }


def page_inspection_summary(end: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the page's JSON at the end: totals per row and the report, numbers rounded."""
    if end is None:
        return None
    return {
        "reason": end["reason"],
        "tokens": end["num_tokens"],
        "tokens_per_s": finite(end["tokens_per_s"]),
        "report": _rounded(end["report"]),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    cost = row["cost"]
    return {
        "a": action_values(row["action"]),
        "s": finite(row["nll"]),
        "h": finite(row["entropy"]),
        "kl": finite(row["kl"]),
        "f": finite(sum(value for key, value in cost.items() if key.endswith("_flops"))),
        "b": finite(sum(value for key, value in cost.items() if key.endswith("_bytes"))),
        "p": per_mille(row["policy"]),
    }


def _rounded(value: Any) -> Any:
    """The same nested value, its floats with the page's digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return finite(value) if isinstance(value, float) else value
