"""Triton kernels that a decode step launches.

``test_step_graph.test_triton_kernels_in_a_graph`` compares its numbers with the references'.
"""

from __future__ import annotations

import pytest
import torch

from sol_core.actions import GRIDS, PAPER, Action, Mechanisms
from tests.kernels.triton_cases import DEVICE
from tests.support.tiny_models import laid_out_for_cuda, make_tiny_lm

# Its bounds of pages, and each head's choice by them, are the reference's.
PAPER_KERNELS = {"enter_rows", "list_channels", "gate_up_rows", "down_rows", "finish_rows"}
DEFAULT_KERNELS = PAPER_KERNELS | {
    "rotate_and_write_rows", "weigh_pages", "choose_pages", "list_pages", "attend_pages",
    "keep_heaviest_rows",
}  # fmt: skip


@pytest.mark.skipif(DEVICE == "cuda", reason="counts calls on the CPU under the interpreter")
@pytest.mark.parametrize(
    ("how", "kernels"), [(PAPER, PAPER_KERNELS), (GRIDS["default"].mechanisms, DEFAULT_KERNELS)]
)
def test_a_step_uses_every_kernel(how: Mechanisms, kernels: set[str]) -> None:
    from kernels.gpu.triton_support import recorded_launches

    lm = laid_out_for_cuda(make_tiny_lm("llama3-rope"))
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.arange(3, 29).reshape(2, 13), cache)
    with recorded_launches() as record:
        lm.decode_step(torch.tensor([7, 8]), cache, Action(0.3, 0.5, 6), mechanisms=how)
    assert {launch.kernel.__name__ for launch in record} == kernels
