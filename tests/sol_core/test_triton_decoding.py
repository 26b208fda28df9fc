"""The decode step through the Triton kernels, end to end, against the references."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sol_core.actions import DENSE, Action
from sol_core.models import FrozenLM
from sol_core.models.integer_mlp import with_integer_mlp
from tests.kernels.triton_cases import DEVICE, triton_here
from tests.tiny_models import laid_out_for_cuda, make_tiny_lm

# Every axis, dense beside compressed, several ratios in one step.
ACTIONS = [Action(0.3, 0.5, 6), DENSE, Action(0.6, 0.8, 16), Action(0.2, 1.0, 9)]


def _decode(lm: FrozenLM, site: str, steps: int = 2) -> Iterator[Tensor]:
    """Logits of the steps after a prefill that two groups of two rows share."""
    tokens = torch.arange(3, 29).reshape(2, 13)
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(tokens, cache)
    rows = cache.branch(2, 6, lengths=[13, 10])
    for step in range(steps):
        output = lm.decode_step(
            torch.tensor([7, 8, 9, 10]) + step,
            rows,
            ACTIONS,
            quant_site=site,
            observe=True,  # type: ignore[arg-type]  # both sites
        )
        yield output.logits
        assert output.attention_concentration is not None
        yield output.attention_concentration


@pytest.mark.skipif(DEVICE == "cuda", reason="compares on the CPU under the interpreter")
@pytest.mark.parametrize(
    ("family", "site"), [("llama3-rope", "mlp_output"), ("gemma3", "mlp_input")]
)
def test_decoding_through_triton_equals_the_references(
    family: str, site: str, caplog: pytest.LogCaptureFixture
) -> None:
    lm = laid_out_for_cuda(make_tiny_lm(family))
    expected = list(_decode(lm, site))
    with triton_here(), caplog.at_level(logging.WARNING):
        found = list(_decode(lm, site))
    assert caplog.text == ""  # nothing fell back
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=2e-4, atol=2e-4)


@pytest.mark.skipif(DEVICE == "cuda", reason="compares on the CPU under the interpreter")
def test_int8_weights_go_through_triton_to_the_same_logits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm = laid_out_for_cuda(make_tiny_lm("llama3-rope"))
    lm = FrozenLM(lm.spec, with_integer_mlp(lm.weights))
    expected = list(_decode(lm, "mlp_input"))
    lm = laid_out_for_cuda(lm)
    with triton_here(), caplog.at_level(logging.WARNING):
        found = list(_decode(lm, "mlp_input"))
    assert caplog.text == ""
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=2e-4, atol=2e-4)


@pytest.mark.skipif(DEVICE == "cuda", reason="counts calls on the CPU under the interpreter")
def test_a_step_uses_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.triton_support import recorded_launches

    lm = laid_out_for_cuda(make_tiny_lm("llama3-rope"))
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.arange(3, 29).reshape(2, 13), cache)
    with recorded_launches() as record:
        lm.decode_step(torch.tensor([7, 8]), cache, Action(0.3, 0.5, 6))
    assert {launch.kernel.__name__ for launch in record} == {
        "rms_norm_rows", "write_rows", "score_pages", "choose_pages", "list_pages",
        "attend_pages", "prepare_rows", "list_channels", "gate_up_rows", "down_rows",
        "finish_rows",
    }  # fmt: skip
