"""Forks of a run: one token is exchanged, and the run goes on from there as a run of its own.

A fork decodes its parent's tokens again, given instead of drawn, so that the cache holds what the
parent's steps left in it. The tree of forks is read from the parents' ids in the database.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from app.host.errors import AppError
from app.runs.queue import GenerationRuns, RunNotFoundError
from app.runs.recorded_run import RecordedRun
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from storage import DatabaseCorruptError, NotFoundError, RunRecord, RunStore, shortened

MOST_RUNS = 60  # of one tree
_TOKENS = 12  # of a fork that its words are made of
_WORDS = 60  # characters


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


def fork_tree(
    runs: GenerationRuns, store: RunStore, owner: str, run_id: str, only: str | None
) -> list[dict[str, Any]]:
    """The runs that this one was forked from, and all forks of those, parents first.

    Args:
        only: whose forks are listed besides those that lead to the run; None: everybody's.
    Raises: RunNotFoundError for a run that this visitor may not see; NotFoundError.
    """
    found = {one.id: one for one in reversed(_line_of(runs, store, owner, run_id))}
    waiting = deque(found)
    while waiting and len(found) < MOST_RUNS:
        for fork in reversed(store.list(only, MOST_RUNS, parent=waiting.popleft())):
            is_shown = fork.damage is None and (fork.status != "running" or fork.owner == owner)
            if is_shown and fork.id not in found and len(found) < MOST_RUNS:
                found[fork.id] = fork
                waiting.append(fork.id)
    return [
        _node(store, one, one.parent if one.parent in found else None) for one in found.values()
    ]


def parting_token(run: RunRecord) -> int | None:
    """Number of the token in which a fork parts from its parent; None of what is no fork."""
    given = run.config.get("given")
    if run.parent is None or not isinstance(given, list) or not given:
        return None
    return len(given) - 1


def _line_of(runs: GenerationRuns, store: RunStore, owner: str, run_id: str) -> list[RunRecord]:
    """The run, its parent, and so on, as far as this visitor may see them."""
    runs.check_visible(owner, run_id)
    line = [store.get(run_id)]
    while (parent := line[-1].parent) is not None and len(line) < MOST_RUNS:
        try:
            runs.check_visible(owner, parent)
            line.append(store.get(parent))
        except (NotFoundError, RunNotFoundError, DatabaseCorruptError):
            break
    return line


def _node(store: RunStore, run: RunRecord, parent: str | None) -> dict[str, Any]:
    """A run of the tree: which token was put in where (None where it is no fork), and its words."""
    index = parting_token(run)
    events = store.events(run.id, after=(index or 0) - 1, limit=_TOKENS)
    texts = [str(event.get("text", "")) for event in events]
    put_in = None if index is None or not texts else texts.pop(0)
    words = shortened(" ".join("".join(texts).split()), _WORDS)
    return {"id": run.id, "parent": parent, "index": index, "text": put_in, "words": words}
