"""A run at a glance: the strip of its text in its colours, what it read, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from app.formats import bytes_share, cost_total, finite, step_bytes, verdict_record
from app.runs.recorded_run import RecordedRun
from sol_core.reporting.verdict import answer_verdict

MOST_BARS = 120  # of a strip
FIRST_WORDS = 32  # tokens of an answer


def glance(run: RecordedRun, summary: dict[str, Any] | None) -> dict[str, Any]:
    """Summarise a run for a list; an inspection by its last schedule.

    Returns: "strip" (shares of the full model's bytes, in the text's order), "share", "verdict",
        "answer", its first words, and "is_left_to_static": whether a policy left all to static.
    """
    kind = run.config.get("schedule", {}).get("kind")
    if run.kind == "inspection":
        pairs = [(_bytes(token, -1), _bytes(token, 0)) for token in run.tokens]
        verdict = next(iter((summary or {}).get("verdicts", ())), None)
    else:
        pairs = [step_bytes(token) for token in run.tokens]
        verdict = None if kind == "dense" else _answer_verdict(run.tokens)
    return {
        "strip": _strip([read / dense for read, dense in pairs if dense]),
        "share": finite(bytes_share(pairs)),
        "verdict": verdict,
        "answer": "" if run.kind == "inspection" else _first_words(run.tokens, summary or {}),
        "is_left_to_static": kind == "policy"
        and bool(run.tokens)
        and not run.tokens[-1].get("policy"),
    }


def _first_words(tokens: Sequence[dict[str, Any]], summary: dict[str, Any]) -> str:
    """Text of the first tokens; of a short answer that has ended, ``FinishEvent.text``."""
    text = "".join(token["text"] for token in tokens[:FIRST_WORDS])
    if len(tokens) > FIRST_WORDS:
        return " ".join(text.split()) + "…"
    return " ".join(summary.get("text", text).split())


def _bytes(token: dict[str, Any], row: int) -> float:
    return cost_total(token["rows"][row]["cost"], "bytes")


def _strip(shares: Sequence[float]) -> list[float | None]:
    """Means of neighbours, so that no strip has more bars than can be seen."""
    size = -(-len(shares) // MOST_BARS) or 1
    return [finite(fmean(shares[at : at + size])) for at in range(0, len(shares), size)]


def _answer_verdict(tokens: Sequence[dict[str, Any]]) -> dict[str, str] | None:
    """Judge the tokens that the run preferred by the full model, where it ran beside."""
    choices = [
        (token["top"][0]["token_id"], side["choice"]["token_id"])
        for token in tokens
        for side in token.get("side", ())
        if side["name"] == "dense" and side.get("choice")
    ]
    others = [at for at, (own, full) in enumerate(choices) if own != full]
    known = [token["kl_to_dense"] for token in tokens if token.get("kl_to_dense") is not None]
    kl, parted = (fmean(known) if known else None), (others[0] if others else None)
    return verdict_record(answer_verdict(len(choices), len(others), kl, parted))
