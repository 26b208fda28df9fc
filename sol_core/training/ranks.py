"""The processes of one training run: each works on its own texts, rank 0 leads.

``torchrun`` and ``accelerate launch`` start a program several times and tell every copy its rank
in environment variables. Units of work are dealt out by their place (the k-th goes to rank k
modulo the number of ranks) and seed their own random numbers, so that who does a unit changes
nothing but the order in which gradients are added. Only the lead has the run's folder.

An error that one rank meets in its share is raised on all. A rank that is gone, or silent for
longer than ``PATIENCE``, is a RankLostError on the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sol_core.errors import ConfigError, RankLostError, SolError
from sol_core.files.places import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
# Longer than any unit of work, and than fetching a model: the others wait meanwhile.
PATIENCE = timedelta(minutes=30)
_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """Processes over torch.distributed's default group; one alone does everything itself.

    Every rank calls the same methods in the same order. Raises: RankLostError from any of them.

    Args:
        device: of the language model, as ``load_language_model`` takes it.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str = "auto") -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def is_lead(self) -> bool:
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of some units that are this rank's."""
        return numbers[self.rank :: self.size]

    def lead(self, work: Callable[[], T]) -> T:
        """Return the lead's result on every rank; what it raises is raised on every rank."""
        box: list[Any] = [_attempt(work) if self.is_lead else None]
        if self.size > 1:
            import torch.distributed as dist

            with _losses():
                dist.broadcast_object_list(box, src=0)
        value, error = box[0]
        _raise_first([error])
        return cast(T, value)

    def each(self, work: Callable[[], T]) -> T:
        """This rank's own result, once every rank has one; the first error is everybody's."""
        value, error = _attempt(work)
        _raise_first(self._exchange(error))
        return cast(T, value)

    def split(self, numbers: Sequence[int], work: Callable[[int], T]) -> list[T]:
        """``work`` of all numbers, in order and on every rank; each rank does its share."""
        parts = self._exchange(_attempt(lambda: [work(number) for number in self.share(numbers)]))
        _raise_first(error for _, error in parts)
        return _dealt(numbers, [values for values, _ in parts])

    def collect(self, numbers: Sequence[int], work: Callable[[int], T]) -> list[T]:
        """As ``split``, on the lead; the other ranks get none of it."""
        own = self.each(lambda: [work(number) for number in self.share(numbers)])
        if self.size == 1:
            return own
        import torch.distributed as dist

        parts: list[Any] | None = [None] * self.size if self.is_lead else None
        with _losses():
            dist.gather_object(own, parts, dst=0)
        return [] if parts is None else _dealt(numbers, parts)

    def any(self, flag: bool) -> bool:
        """Return whether it is true on any rank."""
        return any(self._exchange(flag))

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            with _losses():
                dist.all_reduce(values)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum over all ranks; what no rank reached keeps none."""
        if self.size == 1:
            return
        import torch

        every = list(parameters)
        reached = [float(parameter.grad is not None) for parameter in every]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in every]
        flat = torch.cat([part.flatten() for part in parts] + [parts[0].new_tensor(reached)])
        self.add(flat)
        sums = flat.split([part.numel() for part in parts] + [len(every)])
        for parameter, total, count in zip(every, sums, sums[-1].tolist(), strict=False):
            parameter.grad = total.view_as(parameter) if count else None

    def _exchange(self, own: T) -> list[T]:
        """Return every rank's value, in order."""
        if self.size == 1:
            return [own]
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        with _losses():
            dist.all_gather_object(parts, own)
        return parts


def num_ranks() -> int:
    """Return the number of processes that torchrun or accelerate started this program as."""
    return _number("WORLD_SIZE", 1, least=1)


@contextmanager
def join_ranks(patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """The ranks that this process was started among; one rank if it was started alone.

    On GPUs each takes the one of its local rank, and gradients go through NCCL; all else, and
    everything on CPUs, through gloo.
    """
    size = num_ranks()
    if size == 1:
        yield Ranks()
        return
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start the processes with "
            "torchrun or accelerate launch, or unset WORLD_SIZE to train in one process"
        )
    import torch.distributed as dist

    rank = _number("RANK", 0, least=0)
    device = _own_device(_number("LOCAL_RANK", rank, least=0))
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    with _losses():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=patience)
    yield Ranks(rank, size, device)
    # Not after an error: where a rank is lost, leaving in good order could wait for it.
    dist.destroy_process_group()


def _own_device(local_rank: int) -> str:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return "cpu"
    index = 0 if count == 1 else local_rank  # a launcher may show each process its own GPU only
    if index >= count:
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU: there are {count}; start at most "
            "as many processes as GPUs (torchrun --nproc-per-node)"
        )
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def _number(name: str, default: int, *, least: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"the environment variable {name} must be a whole number of at least {least}, got "
            f"{text!r}: torchrun sets it; unset it to train in one process"
        )
    return int(text)


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return the result of work or its error; bugs are not passed on, they end the process."""
    try:
        return work(), None
    except (SolError, OSError) as error:
        return None, error


def _raise_first(errors: Iterable[Exception | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _dealt(numbers: Sequence[int], parts: Sequence[Any]) -> list[Any]:
    """The ranks' results in the order of the numbers."""
    return [parts[place % len(parts)][place // len(parts)] for place in range(len(numbers))]


@contextmanager
def _losses() -> Iterator[None]:
    """Turn what torch.distributed raises into a RankLostError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RankLostError(
            "another process of this training has ended or does not answer "
            f"({first_line(error)}). The last checkpoint is kept"
        ) from error
