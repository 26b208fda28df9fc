"""Differences between generation and inspection in running, saving and showing them.

Both are a stream of events: the prefix is read, tokens come one by one, and there is an end.
The engines' records say which by ``type``: "prefill", "token" or "finish".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.formats.plain_json import page_row
from app.runs.inspection_views import page_inspected
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from sol_core.inspection import InspectionConfig
from storage import RunKind

UNKNOWN_STEPS = 10_000  # of a text that is read to its end
_LAST = ("reason", "num_tokens", "tokens_per_s")
RunConfig = GenerationConfig | InspectionConfig


@dataclass(frozen=True, slots=True)
class KindOfRun:
    """Storage and page forms of one kind of run.

    Attributes:
        record: JSON form of an engine's event.
        schedule: label for the database.
        row: what the page gets of a token's record.
        first, last: fields that the page reads of the first and of the last event.
        empty: what a visitor is told who starts one without text.
        steps: decode steps that it takes at most.
    """

    name: RunKind
    record: Callable[[Any], dict[str, Any]]
    schedule: Callable[[Any], str]
    row: Callable[[dict[str, Any]], dict[str, Any]]
    first: frozenset[str]
    last: frozenset[str]
    empty: str
    steps: Callable[[Any], int]


KINDS: dict[str, KindOfRun] = {
    kind.name: kind
    for kind in (
        KindOfRun(
            "generation",
            event_to_dict,
            lambda config: str(config.schedule.kind),
            page_row,
            frozenset({"prompt_tokens", "elapsed_ms"}),
            frozenset({*_LAST, "spend", "cost", "dense_cost"}),
            "The prompt is empty. Type something for the model to continue.",
            lambda config: int(config.max_new_tokens),
        ),
        KindOfRun(
            "inspection",
            lambda event: dict(event.to_dict()),
            lambda config: ", ".join(config.rows),
            page_inspected,
            frozenset({"prefix", "text_tokens", "scored_tokens", "elapsed_ms"}),
            frozenset({*_LAST, "report"}),
            "The text is empty. Paste one, or choose a file or a saved run.",
            lambda config: len(config.generated) or config.max_tokens or UNKNOWN_STEPS,
        ),
    )
}


def kind_of(config: RunConfig) -> KindOfRun:
    """The kind of run that a configuration asks for."""
    return KINDS["inspection" if isinstance(config, InspectionConfig) else "generation"]
