"""Addresses take turns at the model, and at an address its visitors do; nobody waits for ever."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.host.errors import AppError
from app.host.limits import Limits
from app.model import model_line
from app.model.model_line import ModelLine, Place

MANY = Limits(queue=1000, runs_per_visitor=100, runs_per_address=0)


class Line(ModelLine):
    """A line in which places come from given addresses; the first one is served."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limits: Limits = MANY) -> None:
        super().__init__(limits)
        self.here: str | None = None
        monkeypatch.setattr(model_line, "address", lambda: self.here)

    def come(self, owner: str, address: str | None) -> Place:
        self.here = address
        return self.enter(owner)

    def end(self) -> Place:
        """The run that is served ends."""
        (served,) = self._served
        self.leave(served)
        return served

    def served(self) -> list[Place]:
        """Everybody in the order in which they are served, as the line empties."""
        return [self.end() for _ in self._line()]


def test_eight_runs_of_one_address_hold_nobody_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch)
    crowd = [line.come(f"id {number}", "192.0.2.1") for number in range(8)]
    ben = line.come("ben", "192.0.2.2")
    assert (line.number(ben), line.before("ben")) == (1, 1)
    carol = line.come("carol", "192.0.2.3")
    assert line.number(carol) == 2
    assert line.served() == [crowd[0], ben, carol, *crowd[1:]]


def test_those_of_one_address_take_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch)
    anna = [line.come("anna", "192.0.2.1") for _ in range(3)]
    ben = [line.come("ben", "192.0.2.1") for _ in range(2)]
    assert line.served() == [anna[0], ben[0], anna[1], ben[1], anna[2]]


@pytest.mark.parametrize("address", ["192.0.2.2", "192.0.2.{}"])
def test_new_names_and_addresses_keep_nobody_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    line = Line(monkeypatch)
    _, second = (line.come("ben", "192.0.2.2") for _ in range(2))
    for number in range(3):
        line.come(f"id {number}", address.format(3 + number))
        line.end()
    assert second not in line._waiting


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.booleans()), max_size=60)
)
def test_whoever_waits_has_as_many_turns_as_the_others_but_two(
    visits: list[tuple[str, str, bool]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        line = Line(monkeypatch)
        turns: dict[Place, list[Place]] = {}  # since a place was taken
        for owner, address, ends in visits:
            turns[line.come(owner, address)] = []
            if ends:
                line.end()
                for one in line._waiting:
                    turns[one].append(line._served[0])
            ahead = line._line()
            assert [line.number(one) for one in ahead] == list(range(len(ahead)))
            for one in line._waiting:
                of_addresses = Counter(other.address for other in turns[one])
                of_owners = Counter(
                    other.owner for other in turns[one] if other.address == one.address
                )
                for had, own in ((of_addresses, one.address), (of_owners, one.owner)):
                    assert max(had.values(), default=0) <= had[own] + 2


def test_each_is_told_what_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch, Limits(queue=4, runs_per_visitor=2, runs_per_address=3))
    for owner in ("anna", "anna", "ben"):
        line.come(owner, "192.0.2.1")
    for owner, address, said in (
        ("anna", "192.0.2.9", "You already have 2 runs running or waiting, the most"),
        ("carol", "192.0.2.1", "Your network already has 3 runs"),
    ):
        with pytest.raises(AppError, match=said):
            line.come(owner, address)
    line.come("carol", None)
    with pytest.raises(AppError, match="This server already has 4 runs"):
        line.come("dora", None)
