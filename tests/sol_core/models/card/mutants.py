"""Kernels that are wrong in one way each: what a launch wrote is spoilt after it."""

import contextlib
from unittest.mock import patch

from kernels.gpu import triton_support

# By kernel, the results that are spoilt: numbers, lists of indices, and how many of them count.
RESULTS = {
    "prepare_rows": ("prepared",),
    "list_channels": ("counts",),
    "multiply_rows": ("output",),
    "activate_rows": ("output",),
    "weigh_pages": ("page_keys", "group_keys"),
    "mass_outside_pages": ("outside",),
    "attend_pages": ("mixed", "parts"),
    "rotate_and_write_rows": ("query", "keys", "values"),
}


def dropped(result):
    """The largest channel, or the first page, of every row is 0."""
    if result.is_floating_point():
        result[..., result.abs().flatten(0, -2).sum(0).argmax()] = 0
    else:
        result[..., 0] = 0


def too_few(result):
    """Numbers are 2 % too small, counts at least one too small."""
    if result.is_floating_point():
        result.mul_(0.98)
    else:
        result.sub_((result // 50).clamp(min=1)).clamp_(min=0)


def zeroed(result):
    result.zero_()


MUTATIONS = (dropped, too_few, zeroed)


@contextlib.contextmanager
def spoilt(kernel_name, mutate, only=lambda arguments, constants: True, results=None):
    """Within it, the kernel's results are mutated; yields how often they were, in a list.

    Args:
        only: of the launch's tensors and numbers by name and its compile-time choices, whether
            it is spoilt.
        results: names of what is spoilt; None takes those of ``RESULTS``.
    """
    right, times = triton_support.launch, []

    def launch(kernel, grid, arguments, constants, *warps, **stages):
        right(kernel, grid, arguments, constants, *warps, **stages)
        if kernel.__name__ == kernel_name and only(arguments, constants):
            times.append(1)
            for name in results or RESULTS[kernel_name]:
                if arguments[name].numel():  # there are no parts of one
                    mutate(arguments[name])

    with patch.object(triton_support, "launch", launch):
        yield times
