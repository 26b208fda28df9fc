"""Log probabilities of the next token, how uncertain they are, and the most probable ones."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.log_softmax import reference

_FEW_ROWS = 2


def log_softmax_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``reference.log_softmax_and_entropy``; fp32 on a CPU goes to Numba, a row's sums being the
    same in any company.

    Args:
        logits: [R, V] fp32.
    """
    few = logits.shape[0] <= _FEW_ROWS
    name = "log_softmax_few_rows" if few else "log_softmax_rows"
    fits = logits.device.type == "cpu" and logits.dtype == torch.float32
    kernel = cpu_kernel(f"{__name__}.cpu", name) if fits else None
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
    fits = dense.device.type == "cpu" and dense.dtype == given.dtype == torch.float32
    kernel = cpu_kernel(f"{__name__}.cpu", "kl_rows") if fits else None
    if kernel is None:
        return reference.kl_to_dense(dense, given)
    kl, entropy = torch.empty(given.shape[:2]), torch.empty(dense.shape[0])
    arrays = (values.contiguous().numpy() for values in (dense, given))
    with torch_with_numba():
        kernel(*arrays, kl.numpy(), entropy.numpy())
    return kl, entropy


def top_k(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest few numbers, in falling order, and their indices; of equal ones the first.

    A look for each on a CPU, where torch's own takes 1.3 ms of a vocabulary of 49,000.

    Args:
        values: [N] fp32, no NaN; N at least ``count``.
    Returns: [count] fp32, and int64.
    """
    if values.device.type == "cpu":
        left = values.detach().numpy().copy()
        largest, indices = np.empty(count, np.float32), np.empty(count, np.int64)
        for rank in range(count):
            index = indices[rank] = left.argmax()
            largest[rank] = left[index]
            if largest[rank] == -np.inf:  # of which those that were taken are some
                break
            left[index] = -np.inf
        else:
            return torch.from_numpy(largest), torch.from_numpy(indices)
    ranked, order = values.sort(descending=True, stable=True)
    return ranked[:count], order[:count]
