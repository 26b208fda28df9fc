"""The kinds of run, and one that has ended as the engine recorded it: what a replay starts from.

A generation and an inspection are both a stream of events: the prefix is read, tokens come one by
one, and there is an end. The engines' records say which by ``type``: "prefill", "token", "finish".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from app.host.errors import AppError
from sol_core.config import GenerationConfig
from sol_core.events import TokenEvent, event_to_dict
from sol_core.fields import from_json
from sol_core.inspection.records import InspectedToken, InspectionConfig
from storage import RunKind, RunRecord, title_of

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


QUESTION = 240  # characters of a prompt's end
_GAPS = (re.compile(r"\n\s*\n"), re.compile(r"[.?!]\s"), re.compile(r"\s"))
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def question_of(prompt: str) -> str:
    """The end of a prompt: what a run was asked, or its last words."""
    text = prompt.strip()
    end = text[-QUESTION:]
    if end == text:
        return text
    starts = (gap.end() for gap in (pattern.search(end) for pattern in _GAPS) if gap)
    return f"… {end[next(starts, 0) :].lstrip()}"


def title_of_run(kind: RunKind, prompt: str, title: str = "") -> str:
    """The title of a text, by default its first line; of a generation what a long prompt asks."""
    question = question_of(prompt)
    if kind != "generation" or question == prompt.strip():
        return title or title_of(prompt)
    asked = question[2:]
    return f"… {title_of(_SENTENCE_END.split(asked)[-1] if asked.endswith('?') else asked)}"


def kind_of(config: RunConfig) -> KindOfRun:
    return KINDS["inspection" if isinstance(config, InspectionConfig) else "generation"]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The engine's own events as JSON, nothing rounded and nothing left out."""

    run_id: str
    kind: RunKind
    prompt: str
    model: str  # that made it
    config: dict[str, Any]
    prefill: dict[str, Any] | None  # the first event; None where the run did not get there
    tokens: Sequence[dict[str, Any]]
    parent: str | None = None  # id of the run that it is a fork of

    @classmethod
    def of(cls, run: RunRecord, tokens: Sequence[dict[str, Any]]) -> RecordedRun:
        head = (run.id, run.kind, run.prompt, run.model, run.config, run.prefill)
        return cls(*head, tokens, run.parent)

    @property
    def token_ids(self) -> list[int]:
        return [token["token_id"] for token in self.tokens]

    @property
    def asked(self) -> tuple[str, bool]:
        """The prompt, and whether it is in the model's chat template."""
        return self.prompt, bool(self.config.get("chat"))

    def check_model(self, model: Any) -> None:
        """Raises: AppError where another model is loaded than the run's."""
        if _known_as(self.model) != _known_as(model.name):
            raise AppError(
                f"{self.model} made this run, {model.name} is loaded: what-ifs need the same model."
            )

    def prompt_ids(self, model: Any) -> list[int]:
        """A generation's prompt encoded again. Raises: AppError where the model is another now."""
        from sol_core.generation.engine import encode_prompt

        self.check_model(model)
        config = from_json(GenerationConfig, self.config)
        prompt = encode_prompt(model, self.prompt, chat=config.chat)
        then = len(prompt) if self.prefill is None else self.prefill["prompt_tokens"]
        if then != len(prompt):
            raise AppError(
                f"The prompt has {len(prompt)} tokens now and had {then} when the run was made: "
                "the model's tokenizer has changed, so the run cannot be replayed."
            )
        return prompt


def _known_as(name: str) -> str:
    """A model's name as it is once it is loaded: of a GGUF file, without folder and ending."""
    return Path(name).stem if name.lower().endswith(".gguf") else name


def fork_config(
    run: RecordedRun, index: int, token_id: int, max_new_tokens: int
) -> GenerationConfig:
    """A run that decodes the tokens before ``index`` again, then another one, and goes on."""
    if not 0 <= index < len(run.tokens):
        raise AppError(f"The run has {len(run.tokens)} tokens, and none of number {index + 1}.")
    if token_id == run.token_ids[index]:
        raise AppError("The run went on from this token itself. Choose another one.")
    if index + 1 >= max_new_tokens:
        raise AppError(
            f"A run here makes at most {max_new_tokens:,} tokens, so nothing could follow this "
            "one. Choose an earlier token."
        )
    config = from_json(GenerationConfig, run.config)
    asked = max(1, config.max_new_tokens - len(config.given))
    given = (*run.token_ids[:index], token_id)
    return replace(config, given=given, max_new_tokens=min(len(given) + asked, max_new_tokens))


def config_without(run: RecordedRun, pages: Sequence[int]) -> GenerationConfig:
    """The configuration of a run that never reads some pages of its prompt."""
    config = from_json(GenerationConfig, run.config)
    read = 1 if run.prefill is None else run.prefill["prompt_tokens"]
    count = (read - 1) // config.grid_in_use.page_size
    if not all(page < count for page in pages):
        raise AppError(f"Only the prompt's pages 1 to {count} can be left out of a whole answer.")
    return replace(config, left_out=tuple(sorted({*config.left_out, *pages})))


def variant_words(run: RunRecord) -> str:
    """Tell how a run differs from its parent, in words; "" without a parent."""
    given, left_out = (run.config.get(name) for name in ("given", "left_out"))
    if run.parent is None:
        return ""
    if isinstance(left_out, list) and left_out:
        return "Without a line" if len(left_out) == 1 else f"Without {len(left_out)} lines"
    if isinstance(given, list) and given:
        return f"Another token {len(given)}"
    return "The full model's answer"
