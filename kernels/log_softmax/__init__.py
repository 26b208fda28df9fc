"""Log probabilities of the next token, and how uncertain they are."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel, torch_with_numba
from kernels.log_softmax import reference

__all__ = ["log_softmax_and_entropy"]

_MANY_NUMBERS = 2**15  # a vocabulary: worth a call even for one row
_FEW_ROWS = 2


def log_softmax_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """As ``reference.log_softmax_and_entropy``; many rows or numbers on a CPU go to Numba.

    Args:
        logits: [R, V] fp32.
    """
    fits = (
        (logits.shape[0] >= MANY_ROWS or logits.numel() >= _MANY_NUMBERS)
        and logits.device.type == "cpu"
        and logits.dtype == torch.float32
    )
    few = logits.shape[0] <= _FEW_ROWS
    name = "log_softmax_few_rows" if few else "log_softmax_rows"
    kernel = cpu_kernel(f"{__name__}.cpu", name) if fits else None
    if kernel is None:
        return reference.log_softmax_and_entropy(logits)
    log_probabilities = torch.empty_like(logits, memory_format=torch.contiguous_format)
    entropy = torch.empty(logits.shape[0])
    with contextlib.nullcontext() if few else torch_with_numba():
        kernel(logits.contiguous().numpy(), log_probabilities.numpy(), entropy.numpy())
    return log_probabilities, entropy
