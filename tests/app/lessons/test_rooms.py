"""Rooms of classes: who sees what, what is refused in words, and that nothing piles up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.host.errors import AppError
from app.host.paths import DataDir
from app.lessons import rooms as room_desk
from app.lessons.rooms import CODE_LENGTH, LESSONS, LETTERS, OPTIONS, RoomDesk
from app.pages.learn.handlers import PAGE
from app.web.calls import server_functions
from app.web.services import build_services
from tests.support.fake_engine import FakeEngine, fake_load

TEACHER, OTHER = "e" * 32, "f" * 32


class Clock:
    """The desk's time, moved by hand, and the visitors' network address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.address = 1000.0, "10.0.0.1"
        monkeypatch.setattr(room_desk.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(room_desk, "address", lambda: self.address)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def desk(clock: Clock) -> RoomDesk:
    return RoomDesk()


def pupil(number: int) -> str:
    return f"{number:032x}"


def wrong_code(code: str) -> str:
    return ("B" if code[0] != "B" else "C") + code[1:]


def test_a_class_guesses_and_its_teacher_sees_how_many_chose_what(desk: RoomDesk) -> None:
    room = desk.open(TEACHER, "pages")
    code = room["code"]
    assert len(code) == CODE_LENGTH
    assert set(code) <= set(LETTERS)
    assert (room["lesson"], room["counts"]) == ("pages", [0] * OPTIONS)
    assert desk.enter(pupil(1), f" {code[:2]} {code[2:].lower()}\n") == {
        "code": code, "lesson": "pages", "guess": None,
    }  # fmt: skip
    for number, choice in ((1, 0), (2, 2), (3, 2), (1, 1)):  # the first one changes their mind
        assert desk.guess(pupil(number), code, "pages", choice)["guess"] == choice
    assert desk.watch(TEACHER)["counts"] == [0, 1, 2]
    assert desk.enter(pupil(1), code)["guess"] == 1


def test_another_question_keeps_the_code_and_drops_the_guesses(desk: RoomDesk) -> None:
    code = desk.open(TEACHER, "pages")["code"]
    desk.guess(pupil(1), code, "pages", 0)
    assert desk.open(TEACHER, "pages")["counts"] == [1, 0, 0]
    assert desk.open(TEACHER, "bits") == {"code": code, "lesson": "bits", "counts": [0, 0, 0]}
    with pytest.raises(AppError, match="another question"):
        desk.guess(pupil(1), code, "pages", 0)
    assert desk.watch(TEACHER)["counts"] == [0, 0, 0]


def test_a_room_is_its_teachers_and_ends_with_them(desk: RoomDesk, clock: Clock) -> None:
    code = desk.open(TEACHER, "pages")["code"]
    with pytest.raises(AppError, match="Your room is closed"):
        desk.watch(OTHER)
    desk.close(OTHER)
    assert desk.enter(pupil(1), code)["code"] == code
    clock.now += room_desk.UNWATCHED_S - 1
    desk.watch(TEACHER)
    clock.now += room_desk.UNWATCHED_S - 1
    assert desk.enter(pupil(1), code)["code"] == code  # a pupil who looks keeps no room open
    clock.now += 2
    with pytest.raises(AppError, match="No room has the code"):
        desk.enter(pupil(1), code)
    code = desk.open(TEACHER, "bits")["code"]
    desk.close(TEACHER)
    with pytest.raises(AppError, match="No room has the code"):
        desk.enter(pupil(1), code)


@pytest.mark.parametrize(
    "code",
    ["", "KTR", "KTRMXX", "KTRMA", "KTRM5", "<img src=x onerror=alert(1)>", "\u202eKTRMX", "ß" * 5,
     "K" * 100_000, "\uff2bTRMX", "\0KTRM"],
)  # fmt: skip
def test_what_is_no_code_is_refused_in_words_and_never_repeated(desk: RoomDesk, code: str) -> None:
    for ask in (desk.enter, lambda owner, code: desk.guess(owner, code, "pages", 0)):
        with pytest.raises(AppError) as refused:
            ask(pupil(1), code)
        words = str(refused.value)
        assert words == "A room code has 5 letters, none of them a vowel, such as KTRMX."


def test_an_answer_or_a_lesson_that_there_is_not_is_refused(desk: RoomDesk) -> None:
    with pytest.raises(AppError, match="no lesson is called '<b>'"):
        desk.open(TEACHER, "<b>")
    code = desk.open(TEACHER, "pages")["code"]
    for choice in (-1, OPTIONS, 2**40):
        with pytest.raises(AppError, match="a guess is a number from 0 to 2"):
            desk.guess(pupil(1), code, "pages", choice)
    assert desk.watch(TEACHER)["counts"] == [0] * OPTIONS


def test_rooms_guesses_and_wrong_codes_have_an_end(
    desk: RoomDesk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_desk, "MAX_GUESSES", 2)
    code = desk.open(TEACHER, "pages")["code"]
    for number in (1, 2):
        desk.guess(pupil(number), code, "pages", 0)
    with pytest.raises(AppError, match="the most that are counted"):
        desk.guess(pupil(3), code, "pages", 0)
    desk.guess(pupil(2), code, "pages", 1)  # who has guessed may change it

    for number in range(1, room_desk.SHARES.of_address):
        desk.open(pupil(number), "pages")
    with pytest.raises(AppError, match="Your network already has 20 rooms open"):
        desk.open(OTHER, "pages")
    clock.address = "10.0.0.2"
    desk.open(OTHER, "pages")
    monkeypatch.setattr(room_desk, "SHARES", replace(room_desk.SHARES, of_all=21))
    with pytest.raises(AppError, match="This server already has 21 rooms open"):
        desk.open(pupil(99), "pages")

    for _ in range(room_desk.MAX_WRONG):
        with pytest.raises(AppError, match="No room has the code"):
            desk.enter(pupil(1), wrong_code(code))
    with pytest.raises(AppError, match="Too many wrong codes"):
        desk.enter(pupil(1), code)
    clock.address = "10.0.0.1"
    assert desk.enter(pupil(1), code)["code"] == code
    clock.address, clock.now = "10.0.0.2", clock.now + room_desk.WRONG_S + 1
    assert desk.enter(pupil(1), code)["code"] == code


def test_codes_differ_even_where_chance_gives_the_same_one_twice(
    desk: RoomDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter(["KTRMX", "KTRMX", "BCDFG"])
    monkeypatch.setattr(room_desk, "_new_code", lambda: next(codes))
    assert [desk.open(owner, "pages")["code"] for owner in (TEACHER, OTHER)] == ["KTRMX", "BCDFG"]


def test_the_page_asks_in_one_visitors_name_and_hears_nothing_of_the_others(tmp_path: Path) -> None:
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, FakeEngine())
    functions = {one.__name__: one for one in server_functions(services, PAGE.handlers)}

    def call(name: str, owner: str, **request: Any) -> dict[str, Any]:
        return dict(json.loads(json.dumps(functions[name]([{"owner": owner, **request}]))))

    code = call("open_room", TEACHER, lesson=LESSONS[0])["code"]
    guessed = call("guess_in_room", OTHER, code=code, lesson=LESSONS[0], choice=2)
    assert guessed == {"code": code, "lesson": LESSONS[0], "guess": 2}
    assert call("enter_room", pupil(1), code=code)["guess"] is None
    watched = call("watch_room", TEACHER)
    assert watched == {"code": code, "lesson": LESSONS[0], "counts": [0, 0, 1]}
    assert OTHER not in json.dumps(watched)
    assert call("close_room", TEACHER) == {}
    assert "closed" in call("watch_room", TEACHER)["refused"]
    services.close()
