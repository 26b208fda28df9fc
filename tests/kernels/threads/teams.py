"""Teams of Python's threads, for tests of compiled functions that a team runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kernels.cpu.team import MARKS, Team

__all__ = ["in_team"]


def in_team(members: int, run: Callable[[Team], Any]) -> list[Any]:
    """What each member of a team returns, all of them running at once.

    Args:
        run: calls compiled code that lets go of Python's lock.
    """
    marks = np.zeros(MARKS, np.int64)
    teams = [Team(marks.ctypes.data, member, members, 1) for member in range(members)]
    with ThreadPoolExecutor(members) as pool:
        return list(pool.map(run, teams))
