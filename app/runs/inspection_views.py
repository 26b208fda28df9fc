"""Records of an inspection as the page wants them: plain, small, finite JSON."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import action_values, finite, per_mille


def page_inspected(token: dict[str, Any]) -> dict[str, Any]:
    """The page's row of an inspected token (the JSON form of ``InspectedToken``).

    Keys as in ``plain_json.page_row`` where they mean the same: i, id, t, top (of the dense row),
    n, ms, at. Besides: k kind of token, rows [{a action, s surprisal, h entropy, kl, f and b
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
