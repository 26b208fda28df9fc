"""Differences between generation and inspection in running, saving and showing them.

Both are a stream of events: the prefix is read, tokens come one by one, and there is an end.
The engines' records say which by ``type``: "prefill", "token" or "finish".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from sol_core.config import GenerationConfig
from sol_core.events import TokenEvent, event_to_dict
from sol_core.inspection.records import InspectedToken, InspectionConfig
from storage import RunKind

UNKNOWN_STEPS = 10_000  # of a text that is read to its end
_LAST = ("reason", "num_tokens", "tokens_per_s")
RunConfig = GenerationConfig | InspectionConfig


def _required(record: type[Any]) -> frozenset[str]:
    """Names of a dataclass's fields that older releases had as well: those without a default."""
    return frozenset(field.name for field in fields(record) if field.default is MISSING)


@dataclass(frozen=True, slots=True)
class KindOfRun:
    """One kind of run; ``first``, ``token`` and ``last`` are fields of events for the page."""

    name: RunKind
    record: Callable[[Any], dict[str, Any]]  # JSON form of an engine's event
    schedule: Callable[[Any], str]  # label for the database
    first: frozenset[str]
    token: frozenset[str]
    last: frozenset[str]
    empty: str  # what a visitor is told who starts one without text
    steps: Callable[[Any], int]  # decode steps that it takes at most


KINDS: dict[str, KindOfRun] = {
    kind.name: kind
    for kind in (
        KindOfRun(
            "generation",
            event_to_dict,
            lambda config: str(config.schedule.kind),
            frozenset({"prompt_tokens", "elapsed_ms"}),
            _required(TokenEvent),
            frozenset({*_LAST, "spend", "cost", "dense_cost"}),
            "The prompt is empty. Type something for the model to continue.",
            lambda config: int(config.max_new_tokens),
        ),
        KindOfRun(
            "inspection",
            lambda event: dict(event.to_dict()),
            lambda config: ", ".join(config.rows),
            frozenset({"prefix", "text_tokens", "scored_tokens", "elapsed_ms"}),
            _required(InspectedToken),
            frozenset({*_LAST, "report"}),
            "The text is empty. Paste one, or choose a file or a saved run.",
            lambda config: len(config.generated) or config.max_tokens or UNKNOWN_STEPS,
        ),
    )
}


def kind_of(config: RunConfig) -> KindOfRun:
    return KINDS["inspection" if isinstance(config, InspectionConfig) else "generation"]
