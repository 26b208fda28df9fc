"""Challenges and attempts: kept, ordered, bounded, deleted with care, and any text survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage import InvalidRecordError, NotFoundError, Store, open_store
from storage.challenges import MAX_KEPT

HOSTILE = "<img src=x onerror=alert(1)> ${7*7} \x00 \ud800 ‮ Ада"


def attempt(store: Store, kl: float, owner: str = "ann", **changes: Any) -> int | None:
    values: dict[str, Any] = {
        "name": "Ann",
        "nll": 3.0,
        "schedule": {"actions": [[kl, 1.0, 16]]},
        "record": {"policy": {"kl": 0.5}},
    }
    return store.challenges.add_attempt("c", owner, kl=kl, **values | changes)


@pytest.fixture
def challenge(store: Store) -> Store:
    store.challenges.save("c", {"steps": 1})
    return store


def test_a_challenge_is_kept_as_it_was_first_saved(store: Store, location: Path | str) -> None:
    assert store.challenges.find("c") is None
    with pytest.raises(NotFoundError, match="Set it up"):
        store.challenges.get("c")
    first = store.challenges.save("c", {"text": HOSTILE})
    assert store.challenges.save("c", {"text": "other"}) == first
    assert store.challenges.find("c") == first
    with open_store(location) as again:
        assert again.challenges.get("c").record == {"text": HOSTILE}


def test_attempts_are_best_first_and_survive_a_restart(
    challenge: Store, location: Path | str
) -> None:
    for kl in (0.3, 0.1, 0.2):
        attempt(challenge, kl, name=HOSTILE)
    attempt(challenge, 0.1, owner="ben", name="")
    with open_store(location) as again:
        found = again.challenges.best("c", 3)
    assert [(one.kl, one.owner, one.name) for one in found] == [
        (0.1, "ann", HOSTILE),
        (0.1, "ben", ""),  # as good, but later
        (0.2, "ann", HOSTILE),
    ]
    assert found[0].schedule == {"actions": [[0.1, 1.0, 16]]}
    assert found[0].record == {"policy": {"kl": 0.5}}
    assert challenge.challenges.best("other", 3) == []


def test_the_same_schedule_counts_once_and_takes_the_new_name(challenge: Store) -> None:
    first = attempt(challenge, 0.2, name="")
    assert attempt(challenge, 0.2, name="Ann B.") == first
    assert attempt(challenge, 0.2, owner="ben") != first
    mine, his = challenge.challenges.best("c", 10)
    assert (mine.id, mine.name, his.owner) == (first, "Ann B.", "ben")


def test_only_the_best_of_each_visitor_stay(challenge: Store) -> None:
    kept = [attempt(challenge, number / 100) for number in range(MAX_KEPT)]
    assert None not in kept
    assert attempt(challenge, 0.5) is None
    assert attempt(challenge, 0.5, owner="ben") is not None
    assert attempt(challenge, 0.001) is not None
    mine = [one.kl for one in challenge.challenges.best("c", 100) if one.owner == "ann"]
    assert mine == [0.0, 0.001, *(number / 100 for number in range(1, MAX_KEPT - 1))]


def test_deleting_asks_whose_it_is(challenge: Store) -> None:
    mine = attempt(challenge, 0.1)
    assert mine is not None
    with pytest.raises(NotFoundError):
        challenge.challenges.delete_attempt(mine, "ben")
    challenge.challenges.delete_attempt(mine, "ann")
    assert challenge.challenges.best("c", 10) == []
    again = attempt(challenge, 0.2)
    assert again is not None
    assert again > mine, "an id is not given twice"
    challenge.challenges.delete_attempt(again)
    with pytest.raises(NotFoundError):
        challenge.challenges.delete_attempt(again)


@pytest.mark.parametrize(
    "changes", [{"kl": float("nan")}, {"nll": float("inf")}, {"record": {"x": float("nan")}}]
)
def test_what_is_no_number_is_refused(challenge: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecordError):
        attempt(challenge, **{"kl": 0.1} | changes)
    assert challenge.challenges.best("c", 10) == []


def test_an_attempt_needs_its_challenge(store: Store) -> None:
    with pytest.raises(NotFoundError):
        attempt(store, 0.1)
