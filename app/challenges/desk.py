"""Challenges for the pages: texts in, scored schedules out, kept in the database.

A challenge is set up once: the policy plays, static and random schedules follow at its spend, and
their scores are saved. Every attempt is scored in the same batch as all of them again, so that
nobody gains by sums in another order. Torch is imported with the first challenge, not before.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.host.errors import AppError
from app.model.compute import Workbench
from app.policies.library import PolicyLibrary
from app.runs.queue import GenerationRuns
from sol_core.actions import Action, ActionGrid, Budget
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from storage import AttemptRecord, ChallengeRecord, ChallengeStore

if TYPE_CHECKING:
    from sol_core.evaluation.arena import Arena, ScheduleScore

MIN_STEPS, MAX_STEPS = 16, 64  # tokens to paint
DEFAULT_STEPS = 32
DEFAULT_BUDGET = Budget(0.5, 0.6, 8.0)  # asked of the policy
MIN_CONTEXT = 8  # tokens before them
MAX_TOKENS = 512
NUM_RANDOM = 10
_TIE = 1e-9  # nats; the same schedule in the same batch has the same numbers
SEED = 0
YOU, POLICY, STATIC, RANDOM = "you", "policy", "static", "random"
HOUSE = (POLICY, STATIC)  # who wins has less KL than both


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    """A visitor's challenge form.

    Attributes:
        text: its last ``steps`` tokens are painted, the others are dense context.
        policy: a stored policy's name.
        budget: asked of the policy; what it really spends is everybody's.
    """

    text: str
    steps: int
    policy: str
    budget: Budget

    def __post_init__(self) -> None:
        if not MIN_STEPS <= self.steps <= MAX_STEPS:
            raise ConfigError(
                f"the number of tokens to paint must be {MIN_STEPS} to {MAX_STEPS}, "
                f"got {self.steps}"
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """A scored schedule.

    Attributes:
        scores: JSON forms by "dense", "you", "policy", "static" and "random", all of one batch.
        id: in the scoreboard; None when the visitor has better ones.
    """

    scores: dict[str, dict[str, Any]]
    id: int | None


class ChallengeDesk:
    """Sets challenges up and scores attempts, one at a time on the model."""

    def __init__(
        self, runs: GenerationRuns, challenges: ChallengeStore, policies: PolicyLibrary
    ) -> None:
        self._runs, self._challenges, self._policies = runs, challenges, policies

    def set_up(self, owner: str, request: ChallengeRequest) -> ChallengeRecord:
        """The challenge that was asked for; the one that is there already, where it is.

        Raises: SolError for a text, policy or budget that does not fit; AppError while the
            model is busy.
        """
        folder = self._policies.resolve_name(request.policy)
        describe = functools.partial(_about, request=request, folder=folder)
        about = self._runs.with_model(owner, describe)
        challenge_id = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
        if (known := self._challenges.find(challenge_id)) is not None:
            return known
        play = functools.partial(_played, challenge_id=challenge_id, about=about, folder=folder)
        played = self._runs.with_model(owner, play)
        return self._challenges.save(challenge_id, about | {"text": request.text} | played)

    def attempt(
        self, owner: str, challenge: ChallengeRecord, schedule: Sequence[Action], name: str
    ) -> Attempt:
        """Score a schedule and put it on the scoreboard.

        Raises: ConfigError for a schedule over budget or off the grid; AppError while the model
            is busy or another one is loaded.
        """
        from sol_core.evaluation.arena import check_schedule, mean_spend

        record = challenge.record
        if len(schedule) != record["steps"]:
            raise ConfigError(f"the schedule needs {record['steps']} steps, got {len(schedule)}")
        policy = actions_of(record["scores"][POLICY])
        check_schedule(schedule, mean_spend(policy), grid_of(record))
        score = functools.partial(_score, challenge=challenge, schedule=tuple(schedule))
        scores = self._runs.with_model(owner, score)
        you = scores[YOU]
        attempt_id = self._challenges.add_attempt(
            challenge.id,
            owner,
            name=name,
            kl=mean(you["kl"]),
            nll=mean(you["nll"]),
            schedule={"actions": you["actions"]},
            record={
                name: {measure: mean(scores[name][measure]) for measure in ("kl", "nll")}
                for name in HOUSE
            },
        )
        return Attempt(scores, attempt_id)


def _about(bench: Workbench, request: ChallengeRequest, folder: Path) -> dict[str, Any]:
    """Everything that decides a challenge's numbers; like all that is asked, it may travel."""
    from sol_core.comparing.contenders import load_contenders
    from sol_core.generation.engine import encode_prompt

    model = bench.model
    tokens = encode_prompt(model, request.text, chat=False)
    _check_length(len(tokens), request.steps)
    (contender,) = load_contenders(model, {request.policy: folder})
    contender.grid.check_budget(request.budget)
    return {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "dtype": model.dtype_name,
        "policy": request.policy,
        "policy_fingerprint": contender.fingerprint,
        "asked": list(request.budget.as_tuple()),
        "tokens": list(tokens),
        "steps": request.steps,
        "grid": contender.grid.to_dict(),
        "num_random": NUM_RANDOM,
    }


def _played(
    bench: Workbench, challenge_id: str, about: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the challenge's record with the policy's game and everybody's scores."""
    from sol_core.comparing.contenders import load_contenders
    from sol_core.evaluation.arena import DENSE_NAME

    model, tokens, grid = bench.model, about["tokens"], grid_of(about)
    (contender,) = load_contenders(model, {about["policy"]: folder})
    arena = _arena(bench, challenge_id, about)
    played = arena.play(contender, Budget(*about["asked"]))
    scores = _scored(arena, played, played, grid)
    before = len(tokens) - about["steps"]
    return {
        "lead": str(model.text_codec.decode(tokens[:before], skip_special_tokens=True)),
        "pieces": pieces_of(model, tokens, before),
        "entropy": list(scores[DENSE_NAME].entropy),
        "scores": {name: _record(score) for name, score in scores.items() if name != YOU},
    }


def _score(
    bench: Workbench, challenge: ChallengeRecord, schedule: tuple[Action, ...]
) -> dict[str, dict[str, Any]]:
    record, model = challenge.record, bench.model
    if (model.fingerprint, model.dtype_name) != (record["fingerprint"], record["dtype"]):
        raise AppError(
            f"{record['model']} ({record['dtype']}) was loaded when this challenge was set up, "
            f"{model.name} ({model.dtype_name}) is loaded now: scores need the same model and "
            "precision. Begin the challenge anew from its text."
        )
    arena = _arena(bench, challenge.id, record)
    scores = _scored(arena, schedule, actions_of(record["scores"][POLICY]), grid_of(record))
    return {name: _record(score) for name, score in scores.items()}


def _arena(bench: Workbench, challenge_id: str, record: Mapping[str, Any]) -> Arena:
    from sol_core.evaluation.arena import Arena, Passage

    passage = Passage(tuple(record["tokens"]), record["steps"])
    return bench.kept("arena", challenge_id, lambda: Arena(bench.model, passage, grid_of(record)))


def actions_of(score: Mapping[str, Any]) -> tuple[Action, ...]:
    """The actions of a score's JSON form."""
    return tuple(map(Action.of, score["actions"]))


def grid_of(record: Mapping[str, Any]) -> ActionGrid:
    """The action grid of a challenge."""
    return from_json(ActionGrid, record["grid"])


def beats_policy(attempt: AttemptRecord, measure: str) -> bool:
    """Return whether the policy of the same batch did worse; measure: "kl" or "nll"."""
    mine: float = getattr(attempt, measure)
    return bool(mine < attempt.record[POLICY][measure] - _TIE)


def wins(attempt: AttemptRecord, challenge: ChallengeRecord) -> bool:
    """Return whether policy and static of the same batch both did worse, by KL.

    Attempts of before static was kept with them are set beside the challenge's own.
    """
    house = {STATIC: {"kl": mean(challenge.record["scores"][STATIC]["kl"])}} | attempt.record
    return bool(attempt.kl < min(house[name]["kl"] for name in HOUSE) - _TIE)


def mean(values: Sequence[float]) -> float:
    """Over a text's tokens."""
    return sum(values) / len(values)


def spend_of(score: Mapping[str, Any]) -> list[float]:
    """Mean over the tokens, by axis."""
    actions = [action.as_tuple() for action in actions_of(score)]
    return [mean(levels) for levels in zip(*actions, strict=True)]


def _scored(
    arena: Arena, schedule: Sequence[Action], policy: Sequence[Action], grid: ActionGrid
) -> dict[str, ScheduleScore]:
    """One batch: the schedule beside policy, static and the best random one."""
    from sol_core.evaluation.arena import DENSE_NAME, best_of, rivals

    others = rivals(policy, grid, num_random=NUM_RANDOM, seed=SEED)
    scores = arena.score({YOU: schedule, POLICY: policy, **others})
    best = best_of({name: scores[name] for name in others if name != STATIC})
    shown = {name: scores[name] for name in (DENSE_NAME, YOU, POLICY, STATIC)}
    return shown | {RANDOM: scores[best]}


def _record(score: ScheduleScore) -> dict[str, Any]:
    return {
        "actions": [list(action.as_tuple()) for action in score.actions],
        "nll": list(score.nll),
        "kl": list(score.kl),
    }


def pieces_of(model: Any, tokens: Sequence[int], before: int) -> list[str]:
    """Return the text that each chosen token adds."""
    from sol_core.generation.text_stream import TextStream

    stream = TextStream(model.text_codec, list(tokens[:before]))
    pieces = [stream.push(token) for token in tokens[before:]]
    pieces[-1] += stream.flush()
    return pieces


def _check_length(count: int, steps: int) -> None:
    if count < steps + MIN_CONTEXT:
        raise ConfigError(
            f"the text has {count} tokens; {steps} to paint after a context of at least "
            f"{MIN_CONTEXT} need {steps + MIN_CONTEXT}. Paste a longer text, or paint fewer tokens."
        )
    if count > MAX_TOKENS:
        raise ConfigError(
            f"the text has {count:,} tokens; at most {MAX_TOKENS} are taken. Paste a shorter one."
        )
