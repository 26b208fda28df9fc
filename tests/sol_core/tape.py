"""A stand-in for CUDA graphs that runs on a CPU: a tape of all that torch and Triton start.

Capturing runs a step once and writes down each operation with the tensors it read and wrote,
by identity; a replay runs the list again over the same memory. As in a CUDA graph, whatever
came from the host while capturing is fixed: numbers in arguments, sizes, which operations run.
Before a replay all results are overwritten with junk, so that one which is not computed anew
(by numpy, say, which torch does not see) is noticed. What a real capture refuses is refused:
reading a number back, and tensors made from the host's numbers.
"""

from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from kernels.gpu import triton_support
from sol_core.models.step.clock import no_lap

_REFUSED = {
    torch.ops.aten._local_scalar_dense.default: "a number is read back",
    torch.ops.aten.nonzero.default: "a size is read back",
    torch.ops.aten.lift_fresh.default: "a tensor is made from the host's numbers",
}


_start = triton_support.start


class Tape(TorchDispatchMode):
    """Operations in the order in which they were started."""

    def __init__(self):
        super().__init__()
        self._operations = []
        self.replays = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _REFUSED:
            raise RuntimeError(f"not while capturing: {_REFUSED[function]} ({function})")
        result = function(*args, **kwargs)
        aliases = [each.alias_info for each in function._schema.returns]
        fresh = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return result  # a view: it needs no work, now or later
        if any(alias is not None for alias in aliases):
            fresh = []  # written in place
        self._operations.append((function, args, kwargs, fresh))
        return result

    def start(self, *launch):
        """A launch of Triton's, whose results are among its arguments."""
        with _disable_current_modes():  # the interpreter's own operations are no part of it
            _start(*launch)
        self._operations.append((_start, launch, {}, []))

    def __len__(self):
        return len(self._operations)

    def replay(self):
        self.replays += 1
        for *_, results in self._operations:
            for tensor in results:
                tensor.fill_(torch.nan if tensor.is_floating_point() else 77)
        for function, args, kwargs, results in self._operations:
            again = [leaf for leaf in tree_leaves(function(*args, **kwargs)) if results]
            for tensor, found in zip(results, again, strict=True):
                tensor.copy_(found)


def tape_capture(step, lap, beside):
    """As ``step_graph``'s capture on CUDA: a warm-up, then the record."""
    step(no_lap)
    with Tape() as tape, patch.object(triton_support, "start", tape.start):
        output = step(lap)
    return tape, output
