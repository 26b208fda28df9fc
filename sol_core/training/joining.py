"""Joins this process to those of one training run that were started with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sol_core.training.ranks import Ranks, rank_variable

# Longer than any unit of work, and than fetching a model: the others wait meanwhile.
PATIENCE = timedelta(minutes=30)


def num_ranks() -> int:
    """Return the number of processes that torchrun or accelerate started this program as."""
    return rank_variable("WORLD_SIZE", 1, least=1)


@contextmanager
def join_ranks(patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """The ranks that this process was started among; one rank if it was started alone."""
    if num_ranks() == 1:
        yield Ranks()
        return
    from sol_core.training.distributed import joined

    with joined(num_ranks(), patience) as processes:
        yield processes
