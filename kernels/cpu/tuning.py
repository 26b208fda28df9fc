"""Choices of the few-row kernels that suit one machine or another, and change no number.

They are arguments, so that a machine can try them without compiling anything again.
"""

from __future__ import annotations

from typing import NamedTuple

# Distances worth trying, the default first, for weights that are quantised or not: in blocks of 32
# channels, or in pairs of rows. With 1 and 6 blocks a product took 1.1 times as long on an AVX-512
# AMD; an AVX2 one did not mind.
AHEAD = {True: (4, 1, 2, 3, 6, 8), False: (2, 1, 4, 8)}


class Tuning(NamedTuple):
    """Choices of a step that suit its machine."""

    threads: int  # that a team is asked of
    ahead: int  # blocks of quantised weights, or pairs of rows of others, asked for beforehand


def default_tuning(threads: int, *, quantised: bool) -> Tuning:
    """Tuning for a machine on which nothing was measured."""
    return Tuning(threads, AHEAD[quantised][0])
