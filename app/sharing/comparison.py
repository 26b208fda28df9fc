"""A comparison of two generations as a page. Its id is theirs with a comma, as in a link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from app.formats import json_safe
from app.host.errors import DocumentError
from app.runs.views import whole_view
from app.sharing.html_page import html_page
from app.sharing.run_document import ended_run
from app.sharing.run_kinds import GENERATION
from sol_core.comparing.alignment import align, first_divergence
from sol_core.errors import SolError
from storage import Store

SEPARATOR = ","
# Of two generations, every token's NLL under the dense model, nats; None where it is not known.
ScorePair = Callable[[tuple[str, str]], list[list[float | None] | None]]


def align_tokens(
    first: Sequence[int], second: Sequence[int], *, same_prompt: bool
) -> dict[str, Any]:
    """ "parted", and "stretches" [same, start, stop, start, stop]; None for different prompts."""
    answer: dict[str, Any] = {"same_prompt": same_prompt, "parted": None, "stretches": None}
    if same_prompt:
        answer["parted"] = first_divergence(first, second)
        answer["stretches"] = [
            [stretch.same, *stretch.first, *stretch.second] for stretch in align(first, second)
        ]
    return answer


def _recorded_dense_nll(
    config: dict[str, Any], events: Sequence[dict[str, Any]]
) -> list[float | None] | None:
    """NLL of every token under the dense model, nats, where the generation itself measured it."""
    if not events:
        return None
    if config.get("schedule", {}).get("kind") == "dense":
        return [event["surprisal"] for event in events]
    dense = {
        row["name"] for row in config.get("side_rows", []) if row["schedule"]["kind"] == "dense"
    }
    values = [
        next((side["surprisal"] for side in event["side"] if side["name"] in dense), None)
        for event in events
    ]
    return values if any(value is not None for value in values) else None


def comparison_page(store: Store, pair: str, score: ScorePair | None) -> str:
    one, _, other = pair.partition(SEPARATOR)
    if not (one and other):
        raise DocumentError(f"a comparison's id is two runs' ids with a comma, got {pair!r}")
    runs = [ended_run(store, run_id, GENERATION.kind) for run_id in (one, other)]
    scored: list[list[float | None] | None] = [None, None]
    if score is not None:
        # With another model, or a busy one, what the runs measured themselves remains.
        with suppress(SolError):
            scored = score((one, other))
    sides = []
    for (record, events), nll in zip(runs, scored, strict=True):
        known = json_safe(nll or _recorded_dense_nll(record.config, events))
        problem = None if known else "no dense pass over this text is in the file."
        sides.append({"nll": known, "problem": problem})
    views = [whole_view(record, events) for record, events in runs]
    first, second = ([event["token_id"] for event in events] for _, events in runs)
    asked = {(record.prompt, bool(record.config.get("chat"))) for record, _ in runs}
    compared = align_tokens(first, second, same_prompt=len(asked) == 1) | {"sides": sides}
    view = {"views": views, "compared": compared}
    return html_page(views[0]["run"]["title"], view, "shared_comparison", ("evaluate", "compare"))
