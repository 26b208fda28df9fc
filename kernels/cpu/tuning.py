"""Choices of the few-row kernels that suit one machine or another, and change no number.

How many threads a step is worth, and how long before its use memory is asked for a piece of a
weight, depend on the core and its memory: more is not always better. They are arguments, so that
a machine can try them (``sol_core/models/tuning.py``) without compiling anything again.
"""

from __future__ import annotations

from typing import NamedTuple

# Distances worth trying, the default first, for weights that are quantised or not: in blocks of 32
# channels, or in pairs of rows. With 1 and 6 blocks a product took 1.1 times as long on an AVX-512
# AMD; an AVX2 one did not mind.
AHEAD = {True: (4, 1, 2, 3, 6, 8), False: (2, 1, 4, 8)}


class Tuning(NamedTuple):
    """Choices of a step that suit its machine.

    Attributes:
        threads: that a team is asked of.
        ahead: blocks of quantised weights, or pairs of rows of others, asked for beforehand.
    """

    threads: int
    ahead: int


def default_tuning(threads: int, *, quantised: bool) -> Tuning:
    """Tuning for a machine on which nothing was measured."""
    return Tuning(threads, AHEAD[quantised][0])
