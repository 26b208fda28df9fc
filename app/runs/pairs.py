"""Two generations side by side, from their tokens alone: where they agree, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol_core.comparing.alignment import align, first_divergence


def align_tokens(
    first: Sequence[int], second: Sequence[int], *, same_prompt: bool
) -> dict[str, Any]:
    """Return the alignment of two token lists.

    Returns: "same_prompt"; "parted", the first token that differs (None where none does), and
        "stretches" [same, first start, stop, second start, stop]; both None for different prompts.
    """
    answer: dict[str, Any] = {"same_prompt": same_prompt, "parted": None, "stretches": None}
    if same_prompt:
        answer["parted"] = first_divergence(first, second)
        answer["stretches"] = [[one.same, *one.first, *one.second] for one in align(first, second)]
    return answer


def recorded_dense_nll(
    config: dict[str, Any], events: Sequence[dict[str, Any]]
) -> list[float | None] | None:
    """NLL of every token under the dense model, nats, where the generation itself measured it.

    Args:
        config: of the generation, as JSON.
        events: its token events, as JSON.
    Returns: None where neither the generation nor a row beside it was dense.
    """
    if not events:
        return None
    if config.get("schedule", {}).get("kind") == "dense":
        return [event["surprisal"] for event in events]
    dense = {
        row["name"] for row in config.get("side_rows", []) if row["schedule"]["kind"] == "dense"
    }
    found = [
        next((side["surprisal"] for side in event["side"] if side["name"] in dense), None)
        for event in events
    ]
    return found if any(value is not None for value in found) else None
