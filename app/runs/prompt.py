"""The tokens that a finished run began with, encoded again."""

from __future__ import annotations

from typing import Any

from app.host.errors import AppError
from sol_core.config import GenerationConfig
from sol_core.fields import config_from_dict

__all__ = ["check_same_model", "prompt_of_run"]


def check_same_model(model: Any, run: dict[str, Any]) -> None:
    """Raises: AppError when another model made the run than the loaded one."""
    if run["model"] != model.name:
        raise AppError(
            f"{run['model']} made this run, {model.name} is loaded: what-ifs need the same model."
        )


def prompt_of_run(model: Any, run: dict[str, Any], prefill: dict[str, Any] | None) -> list[int]:
    """Token ids of a run's prompt.

    Args:
        run, prefill: as a poll of the run tells them.
    Raises: AppError when another model made the run, or its tokenizer has changed since.
    """
    from sol_core.generation.engine import encode_prompt

    check_same_model(model, run)
    config = config_from_dict(GenerationConfig, run["config"])
    prompt = encode_prompt(model, run["prompt"], chat=config.chat)
    if prefill is not None and prefill["tokens"] != len(prompt):
        raise AppError(
            f"The prompt has {len(prompt)} tokens now and had {prefill['tokens']} when the run was "
            "made: the model's tokenizer has changed, so the run cannot be replayed."
        )
    return prompt
