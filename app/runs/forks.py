"""Forks of a run: one token is exchanged, and the run goes on from there as a run of its own.

A fork decodes its parent's tokens again, given instead of drawn, so that the cache holds what the
parent's steps left in it.
"""

from __future__ import annotations

from dataclasses import replace

from app.host.errors import AppError
from app.runs.recorded_run import RecordedRun
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from storage import RunRecord


def fork_config(
    run: RecordedRun, index: int, token_id: int, max_new_tokens: int
) -> GenerationConfig:
    """The configuration of a run that goes on as ``run`` did, with another token at ``index``.

    It makes as many tokens after it as its parent was asked for.

    Args:
        max_new_tokens: of any run here.
    Raises: AppError for a token that is not there, that is the same, or that nothing could follow.
    """
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


def parting_token(run: RunRecord) -> int | None:
    """Number of the token in which a fork parts from its parent; None of what is no fork."""
    given = run.config.get("given")
    if run.parent is None or not isinstance(given, list) or not given:
        return None
    return len(given) - 1
