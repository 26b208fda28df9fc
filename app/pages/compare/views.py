"""Challenges, attempts and pairs of runs as the page wants them: plain, small, finite JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.challenges.desk import NUM_RANDOM, Attempt, actions_of, grid_of, mean, spend_of, wins
from app.formats.plain_json import finite, iso
from sol_core.actions import Budget
from storage import AttemptRecord, ChallengeRecord

LABELS = {
    "dense": "Dense",
    "you": "You",
    "policy": "Policy",
    "static": "Static",
    "random": f"Best of {NUM_RANDOM} random",
}


def challenge_view(challenge: ChallengeRecord, best: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A challenge to paint.

    Keys: levels per axis; limit, the total that each axis may spend over the tokens; tokens
    [{i, id, t, s dense surprisal, h dense entropy}]; plans of policy and static; scores; board.
    """
    record = challenge.record
    scores = record["scores"]
    plans = {name: _levels(scores[name]) for name in ("policy", "static")}
    before = len(record["tokens"]) - record["steps"]
    dense = scores["dense"]
    return {
        "id": challenge.id,
        "text": record["text"],
        "lead": record["lead"],
        "context": before,
        "steps": record["steps"],
        "model": record["model"],
        "policy": record["policy"],
        "asked": list(Budget(*record["asked"]).as_tuple()),
        "levels": [list(levels) for levels in grid_of(record).levels()],
        "limit": [finite(sum(column)) for column in zip(*plans["policy"], strict=True)],
        "tokens": [
            {
                "index": index,
                "token_id": token,
                "text": text,
                "surprisal": finite(nll),
                "entropy": finite(entropy),
            }
            for index, (token, text, nll, entropy) in enumerate(
                zip(
                    record["tokens"][before:],
                    record["pieces"],
                    dense["nll"],
                    record["entropy"],
                    strict=True,
                )
            )
        ],
        "plans": plans,
        "scores": _scores(scores),
        "board": list(best),
    }


def _levels(score: Mapping[str, Any]) -> list[list[float]]:
    """Per token a level of every axis."""
    return [list(action.as_tuple()) for action in actions_of(score)]


def attempt_view(attempt: Attempt, best: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A scored attempt: scores of its own batch, its place's id, the scoreboard."""
    return {"scores": _scores(attempt.scores), "id": attempt.id, "board": list(best)}


def board_view(
    challenge: ChallengeRecord, attempts: Sequence[AttemptRecord], owner: str, *, all_mine: bool
) -> list[Any]:
    """The scoreboard's rows, best first; "wins" is whether policy and static were worse.

    Args:
        all_mine: whether this visitor may delete everybody's attempts.
    """
    return [
        {
            "id": attempt.id,
            "name": attempt.name,
            "kl": finite(attempt.kl),
            "nll": finite(attempt.nll),
            "wins": wins(attempt, challenge),
            "actions": attempt.schedule["actions"],
            "created_at": iso(attempt.created_at),
            "mine": attempt.owner == owner,
            "can_delete": all_mine or attempt.owner == owner,
        }
        for attempt in attempts
    ]


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In the order of ``LABELS``: mean spend, actions, means and every step's NLL and KL."""
    return [
        {
            "name": name,
            "label": label,
            "spend": [finite(value) for value in spend_of(scores[name])],
            "actions": scores[name]["actions"],
            "nll": finite(mean(scores[name]["nll"])),
            "kl": finite(mean(scores[name]["kl"])),
            "nlls": [finite(value) for value in scores[name]["nll"]],
            "kls": [finite(value) for value in scores[name]["kl"]],
        }
        for name, label in LABELS.items()
        if name in scores
    ]
