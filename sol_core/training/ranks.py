"""The processes of one training run: each works on its own texts, rank 0 leads.

The k-th unit of work goes to rank k modulo their number. An error of one rank is raised on all; a
rank that is gone, or silent for too long, is a RankLostError on the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sol_core.errors import ConfigError, RankLostError, SolError
from sol_core.files.places import first_line

T = TypeVar("T")
_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
# Longer than any unit of work, and than fetching a model: the others wait meanwhile.
PATIENCE = timedelta(minutes=30)


class Ranks:
    """The processes of a run as one of them sees them; a lone one needs no torch.distributed.

    Attributes:
        device: of the language model, as ``load_language_model`` takes it.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str = "auto") -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def is_lead(self) -> bool:
        return self.rank == 0

    def own(self, numbers: Sequence[int]) -> Sequence[int]:
        """Pick this rank's units."""
        return numbers[self.rank :: self.size]

    def lead(self, work: Callable[[], T]) -> T:
        """Return the lead's result on every rank; what it raises is raised on every rank."""
        box: list[Any] = [_attempt(work) if self.is_lead else None]
        if self.size > 1:
            with _losses():
                dist.broadcast_object_list(box, src=0)
        value, error = box[0]
        _raise_first([error])
        return cast(T, value)

    def each(self, work: Callable[[], T]) -> T:
        """Return this rank's result once every rank has one; the first error is everybody's."""
        value, error = _attempt(work)
        _raise_first(self._exchange(error))
        return cast(T, value)

    def split(self, numbers: Sequence[int], work: Callable[[int], T]) -> list[T]:
        """``work`` of all numbers, in order and on every rank; each rank does its own ones."""
        parts = self._exchange(_attempt(lambda: [work(number) for number in self.own(numbers)]))
        _raise_first(error for _, error in parts)
        dealt = [cast(list[T], values) for values, _ in parts]
        return [dealt[n % self.size][n // self.size] for n in range(len(numbers))]

    def any(self, flag: bool) -> bool:
        """Return whether it is true on any rank."""
        return any(self._exchange(flag))

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over all ranks."""
        if self.size > 1:
            with _losses():
                dist.all_reduce(values)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum over all ranks; what no rank reached keeps none."""
        if self.size == 1:
            return
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
        parts: list[Any] = [own] * self.size
        if self.size > 1:
            with _losses():
                dist.all_gather_object(parts, own)
        return parts


@contextmanager
def join_ranks(patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """The ranks that torchrun or accelerate started with this one; alone, one rank."""
    size = _variable("WORLD_SIZE", 1, least=1)
    if size == 1:
        yield Ranks()
        return
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start the processes with "
            "torchrun or accelerate launch, or unset WORLD_SIZE to train in one process"
        )
    rank = _variable("RANK", 0, least=0)
    device = _own_device(_variable("LOCAL_RANK", rank, least=0))
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    with _losses():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=patience)
    yield Ranks(rank, size, device)
    # Not after an error: where a rank is lost, leaving in good order could wait for it.
    dist.destroy_process_group()


def _variable(name: str, default: int, *, least: int) -> int:
    """A number that torchrun sets; ConfigError for a variable that is damaged."""
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"the environment variable {name} must be a whole number of at least {least}, got "
            f"{text!r}: torchrun sets it; unset it to train in one process"
        )
    return int(text)


def _own_device(local_rank: int) -> str:
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


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return the result of work or its error; bugs are not passed on, they end the process."""
    try:
        return work(), None
    except (SolError, OSError) as error:
        return None, error


def _raise_first(errors: Iterable[Exception | None]) -> None:
    for error in filter(None, errors):
        raise error


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
