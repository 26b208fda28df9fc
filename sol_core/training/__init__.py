"""Training: damage labels, a warm start on them, GRPO on rollouts, checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sol_core.training.ranks import Ranks, rank_variable

# Longer than any unit of work, and than fetching a model: the others wait meanwhile.
PATIENCE = timedelta(minutes=30)


@contextmanager
def join_ranks(patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """The ranks that torchrun or accelerate started with this one; alone, one rank."""
    size = rank_variable("WORLD_SIZE", 1, least=1)
    if size == 1:
        yield Ranks()
        return
    from sol_core.training.distributed import joined

    with joined(size, patience) as processes:
        yield processes
