"""Parts shared by several CPU kernels: threads, small Numba functions, explicit vectors.

Operations are in the folders beside this one; each has its Numba code in ``cpu.py``. Nothing
here knows Triton.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def takes_bf16(tensor: Tensor) -> bool:
    """Return whether a tensor is a bf16 one on a CPU, for the kernels of a prefill.

    They round once where torch rounds several times. An fp32 prefill stays torch's: the numbers of
    the paper's authors depend on its last bits.
    """
    return tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16


def as_array(tensor: Tensor) -> Any:
    """The tensor's memory as numpy; bfloat16 as uint16 bit patterns and float16 as int16 ones."""
    patterns = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
    return tensor.detach().view(patterns.get(tensor.dtype, tensor.dtype)).numpy()
