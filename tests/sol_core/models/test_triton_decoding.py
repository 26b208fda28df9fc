"""The decode step through the Triton kernels, end to end, against the references.

``test_step_graph.test_triton_kernels_in_a_graph`` does it for weights in floating point.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.models import FrozenLM
from sol_core.models.integer_mlp import with_integer_mlp
from tests.kernels.triton_cases import DEVICE, triton_here
from tests.support.tiny_models import laid_out_for_cuda, make_tiny_lm

# Every axis, dense beside compressed, several ratios in one step.
ACTIONS = [Action(0.3, 0.5, 6), DENSE, Action(0.6, 0.8, 16), Action(0.2, 1.0, 9)]
PAPER_KERNELS = {
    "rms_norm_rows", "write_rows", "score_pages", "choose_pages", "count_union", "list_pages",
    "attend_pages",
    "prepare_rows", "list_channels", "gate_up_rows", "down_rows", "finish_rows",
}  # fmt: skip
DEFAULT_KERNELS = PAPER_KERNELS - {"score_pages", "count_union"} | {
    "weigh_pages", "share_pages", "keep_heaviest_rows",
}  # fmt: skip


def _decode(lm: FrozenLM, mechanisms: Mechanisms) -> tuple[Tensor, Tensor]:
    """Logits and attention of a step after a prefill that two groups of two rows share."""
    tokens = torch.arange(3, 29).reshape(2, 13)
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(tokens, cache)
    rows = cache.branch(2, 6, lengths=[13, 10])
    output = lm.decode_step(
        torch.tensor([7, 8, 9, 10]),
        rows,
        ACTIONS,
        mechanisms=mechanisms,
        observe=True,
    )
    assert output.attention_concentration is not None
    return output.logits, output.attention_concentration


@pytest.mark.skipif(DEVICE == "cuda", reason="compares on the CPU under the interpreter")
@pytest.mark.parametrize("default", [False, True])
def test_int8_weights_go_through_triton_to_the_same_logits(
    default: bool, caplog: pytest.LogCaptureFixture
) -> None:
    how = replace(GRIDS["default"].mechanisms if default else PAPER, quant_site="mlp_input")
    lm = laid_out_for_cuda(make_tiny_lm("llama3-rope"))
    lm = FrozenLM(lm.spec, with_integer_mlp(lm.weights))
    expected = _decode(lm, how)
    lm = laid_out_for_cuda(lm)
    with triton_here(), caplog.at_level(logging.WARNING):
        found = _decode(lm, how)
    assert caplog.text == ""
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=2e-4, atol=2e-4)


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
