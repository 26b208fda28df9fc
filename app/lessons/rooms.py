"""Rooms: a class guesses at a lesson's question, and its teacher sees how many chose what.

A room lives in the memory of the page process and nowhere else: a restart closes all of them, and
one that its teacher has not looked at for half an hour is gone. It holds a code, a lesson's name
and a number per guess, each under the random id of a browser; no name, no text, nothing that is
worth keeping.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from app.host.errors import AppError
from app.host.shares import Shares
from app.host.visitor import address

LESSONS = ("steps", "pages", "channels", "which", "bits", "spend")
OPTIONS = 3  # answers to each lesson's question
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # without vowels no code is a word, without digits none is misread
CODE_LENGTH = 5
_EXAMPLE = "KTRMX"
SHARES = Shares("rooms open", of_address=20, of_all=200)  # a school may share an address
MAX_GUESSES = 200  # of a room
UNWATCHED_S = 1800.0  # then a room is closed
MAX_WRONG = 60  # codes of no room, from one network address …
WRONG_S = 60.0  # … in so many seconds
MOST_REMEMBERED = 10_000  # of them


@dataclass(eq=False, slots=True)
class _Room:
    """One room.

    Attributes:
        owner: the visitor who opened it; ``address``: theirs, None where it is not known.
        guesses: number of the chosen answer by the visitor who chose it.
        watched_at: when its owner last looked, monotonic seconds.
    """

    code: str
    owner: str
    address: str | None
    lesson: str
    watched_at: float
    guesses: dict[str, int] = field(default_factory=dict)


class RoomDesk:
    """Opens and closes rooms, lets visitors in and counts their guesses. Safe from any thread."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}  # by owner
        self._wrong: deque[tuple[float, str | None]] = deque(maxlen=MOST_REMEMBERED)
        self._lock = threading.Lock()

    def open(self, owner: str, lesson: str) -> dict[str, Any]:
        """Ask a lesson's question in the visitor's room, which is opened if there is none.

        The room keeps its code; guesses at another question are dropped. Returns as ``watch``.
        Raises: AppError for an unknown lesson, or when there are too many rooms.
        """
        if lesson not in LESSONS:
            raise AppError(f"no lesson is called {lesson[:40]!r}. Reload the page.")
        with self._lock:
            self._close_unwatched()
            room = self._rooms.get(owner)
            if room is None:
                room = self._rooms[owner] = self._new_room(owner, lesson)
            if room.lesson != lesson:
                room.lesson, room.guesses = lesson, {}
            return _watched(room)

    def watch(self, owner: str) -> dict[str, Any]:
        """The visitor's own room: ``code``, ``lesson``, and ``counts`` of guesses per answer.

        Raises: AppError when they have none.
        """
        with self._lock:
            self._close_unwatched()
            room = self._rooms.get(owner)
            if room is None:
                raise AppError(
                    "Your room is closed: the server was started anew, or nobody watched the room "
                    f"for {UNWATCHED_S / 60:.0f} minutes. Open another one."
                )
            room.watched_at = time.monotonic()
            return _watched(room)

    def close(self, owner: str) -> None:
        """Close the visitor's room, if they have one; its guesses are forgotten."""
        with self._lock:
            self._rooms.pop(owner, None)

    def enter(self, owner: str, code: str) -> dict[str, Any]:
        """A room by its code: ``code``, ``lesson``, and this visitor's ``guess``, None without one.

        Raises: AppError for what is no code, the code of no room, or too many wrong ones.
        """
        with self._lock:
            return _entered(self._find(code), owner)

    def guess(self, owner: str, code: str, lesson: str, choice: int) -> dict[str, Any]:
        """Count a visitor's guess, in place of an earlier one. Returns as ``enter``.

        Args:
            lesson: whose question was answered; choice: number of the answer, from 0.
        Raises: AppError as ``enter``, for an answer that there is not, a question that is no
            longer asked, and a room that is full.
        """
        with self._lock:
            room = self._find(code)
            if lesson != room.lesson:
                raise AppError("This room is at another question now.")
            if not 0 <= choice < OPTIONS:
                raise AppError(f"a guess is a number from 0 to {OPTIONS - 1}. Reload the page.")
            if owner not in room.guesses and len(room.guesses) >= MAX_GUESSES:
                raise AppError(f"This room has {MAX_GUESSES} guesses, the most that are counted.")
            room.guesses[owner] = choice
            return _entered(room, owner)

    def _new_room(self, owner: str, lesson: str) -> _Room:
        here = address()
        SHARES.check(self._rooms.values(), owner, here)
        taken_codes = {room.code for room in self._rooms.values()}
        while (code := _new_code()) in taken_codes:
            pass
        return _Room(code, owner, here, lesson, time.monotonic())

    def _find(self, code: str) -> _Room:
        self._close_unwatched()
        wanted = "".join(code[:40].split()).upper()
        if len(wanted) != CODE_LENGTH or not set(wanted) <= set(LETTERS):
            raise AppError(
                f"A room code has {CODE_LENGTH} letters, none of them a vowel, such as {_EXAMPLE}."
            )
        now, here = time.monotonic(), address()
        while self._wrong and now - self._wrong[0][0] > WRONG_S:
            self._wrong.popleft()
        if sum(one == here for _, one in self._wrong) >= MAX_WRONG:
            raise AppError("Too many wrong codes came from your network. Wait for a minute.")
        for room in self._rooms.values():
            if room.code == wanted:
                return room
        self._wrong.append((now, here))
        raise AppError(f"No room has the code {wanted}. Compare it with your teacher's screen.")

    def _close_unwatched(self) -> None:
        latest = time.monotonic() - UNWATCHED_S
        self._rooms = {
            owner: room for owner, room in self._rooms.items() if room.watched_at >= latest
        }


def _new_code() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))


def _watched(room: _Room) -> dict[str, Any]:
    chosen = list(room.guesses.values())
    counts = [chosen.count(option) for option in range(OPTIONS)]
    return {"code": room.code, "lesson": room.lesson, "counts": counts}


def _entered(room: _Room, owner: str) -> dict[str, Any]:
    return {"code": room.code, "lesson": room.lesson, "guess": room.guesses.get(owner)}
