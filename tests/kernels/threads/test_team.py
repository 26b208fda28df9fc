"""Threads that meet in memory: nobody runs ahead, nobody waits for who has not come."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from kernels.cpu.team import MARKS, Team, join, meet
from kernels.cpu.threads import Tuning


def in_team(members, run):
    """What each member of a team returns, all of them running at once."""
    marks = np.zeros(MARKS, np.int64)
    teams = [Team(marks.ctypes.data, member, members, 1) for member in range(members)]
    with ThreadPoolExecutor(members) as pool:
        return list(pool.map(run, teams))


@numba.njit(nogil=True)
def _count_together(team, seen, rounds):
    """Each member writes the round, and counts how many times others had another one."""
    wrong = 0
    for number in range(rounds):
        seen[8 * team.member] = number
        meet(team)
        for other in range(team.members):
            wrong += seen[8 * other] != number
        meet(team)
    return wrong


@pytest.mark.parametrize("members", [1, 2, 3])
def test_nobody_leaves_a_meeting_before_all_have_come(members):
    seen = np.full(8 * members, -1)
    assert in_team(members, lambda team: _count_together(team, seen, 300)) == [0] * members
    assert set(seen[::8]) == {299}


@numba.njit(nogil=True)
def _join(marks, place, wanted):
    return join(marks, place, Tuning(wanted, 5))


def test_who_comes_too_late_is_left_out():
    """One thread that runs all of a loop's iterations is a team of one, and ends."""
    marks = np.zeros(MARKS, np.int64)
    address = marks.ctypes.data
    assert [Team(*_join(address, place, 3)) for place in range(3)] == [
        Team(address, 0, 1, 5),
        Team(address, -1, 0, 5),
        Team(address, -1, 0, 5),
    ]


def test_who_comes_in_time_is_a_member():
    marks = np.zeros(MARKS, np.int64)
    _join(np.zeros(MARKS, np.int64).ctypes.data, 0, 1)  # compiled
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(_join, marks.ctypes.data, place, 3) for place in (2, 1)]
        while int(marks[0]) < 2:
            pass
        first = Team(*_join(marks.ctypes.data, 0, 3))
        found = sorted(Team(*other.result()).member for other in others)
    assert (first.member, first.members) == (0, 3)
    assert found == [1, 2]
