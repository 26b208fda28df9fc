"""A run that has ended, as the engine recorded it: what a replay starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.host.errors import AppError
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from storage import RunKind, RunRecord


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The engine's own events, nothing rounded and nothing left out.

    Attributes:
        model: name of the model that made it.
        config: JSON of its configuration.
        prefill: JSON of the engine's first event; None where the run did not get there.
        tokens: JSON of every token's event, in order.
        parent: id of the run that it is a fork of; None for no fork.
    """

    run_id: str
    kind: RunKind
    prompt: str
    model: str
    config: dict[str, Any]
    prefill: dict[str, Any] | None
    tokens: Sequence[dict[str, Any]]
    parent: str | None = None

    @classmethod
    def of(cls, run: RunRecord, tokens: Sequence[dict[str, Any]]) -> RecordedRun:
        """Return the run of a row in the database."""
        head = (run.id, run.kind, run.prompt, run.model, run.config, run.prefill)
        return cls(*head, tokens, run.parent)

    @property
    def token_ids(self) -> list[int]:
        return [token["token_id"] for token in self.tokens]

    @property
    def asked(self) -> tuple[str, bool]:
        """The prompt, and whether it is in the model's chat template."""
        return self.prompt, bool(self.config.get("chat"))

    def without_tokens(self) -> RecordedRun:
        """Return what travels to another process where the tokens are not needed."""
        return replace(self, tokens=())

    def check_model(self, model: Any) -> None:
        """Raises: AppError when another model made the run than this one."""
        if self.model != model.name:
            raise AppError(
                f"{self.model} made this run, {model.name} is loaded: what-ifs need the same model."
            )

    def prompt_ids(self, model: Any) -> list[int]:
        """Token ids of a generation's prompt, encoded again.

        Raises: AppError when another model made the run, or its tokenizer has changed since.
        """
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
