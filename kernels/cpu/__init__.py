"""Parts shared by several CPU kernels: threads, small Numba functions, explicit vectors.

Operations are in the folders beside this one; each has its Numba code in ``cpu.py``. Nothing
here knows Triton.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def on_cpu(*tensors: Tensor) -> bool:
    """Return whether these lie on a CPU, in a number format that the many-row kernels know."""
    known = torch.float32, torch.bfloat16
    return all(tensor.device.type == "cpu" and tensor.dtype in known for tensor in tensors)


def as_array(tensor: Tensor) -> Any:
    """The tensor's memory as numpy; bfloat16 as uint16 bit patterns and float16 as int16 ones."""
    patterns = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
    return tensor.detach().view(patterns.get(tensor.dtype, tensor.dtype)).numpy()
