"""Log probabilities of the next token, and how uncertain they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.log_softmax import reference

__all__ = ["kl_to_dense", "log_softmax_and_entropy"]

_FEW_ROWS = 2


def log_softmax_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``reference.log_softmax_and_entropy``; fp32 on a CPU goes to Numba, a row's sums being the
    same in any company.

    Args:
        logits: [R, V] fp32.
    """
    few = logits.shape[0] <= _FEW_ROWS
    kernel = _kernel("log_softmax_few_rows" if few else "log_softmax_rows", logits)
    if kernel is None:
        return reference.log_softmax_and_entropy(logits)
    log_probabilities = torch.empty_like(logits, memory_format=torch.contiguous_format)
    entropy = torch.empty(logits.shape[0])
    with contextlib.nullcontext() if few else torch_with_numba():
        kernel(logits.contiguous().numpy(), log_probabilities.numpy(), entropy.numpy())
    return log_probabilities, entropy


def kl_to_dense(dense: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """``reference.kl_to_dense``; on a CPU as above.

    Args:
        dense: [B, V] fp32 log probabilities.
        given: [B, G, V] fp32 log probabilities.
    """
    kernel = _kernel("kl_rows", dense, given)
    if kernel is None:
        return reference.kl_to_dense(dense, given)
    kl, entropy = torch.empty(given.shape[:2]), torch.empty(dense.shape[0])
    arrays = (values.contiguous().numpy() for values in (dense, given))
    with torch_with_numba():
        kernel(*arrays, kl.numpy(), entropy.numpy())
    return kl, entropy


def _kernel(name: str, *operands: Tensor) -> Callable[..., None] | None:
    if any(part.device.type != "cpu" or part.dtype != torch.float32 for part in operands):
        return None
    return cpu_kernel(f"{__name__}.cpu", name)
