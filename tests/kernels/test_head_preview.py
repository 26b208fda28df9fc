"""The head in two passes: what is previewed, what is exact, and that compiled code agrees."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels import head_preview
from kernels.cpu.team import Team
from kernels.decode_layer import few_row_kernel, multiplies_quantised
from kernels.head_preview import STATE_BITS
from kernels.quantised_weights import BLOCK, KINDS, pack_blocks, unpack_blocks
from tests.kernels.from_python import from_python
from tests.kernels.test_quantised_weights import make_blocks

OUTPUTS, WIDTH = 192, 96


def head_of(seed):
    """A head in 8 bits, and orthonormal directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(WIDTH, 32, generator=generator)).Q
    return make_blocks("Q8_0", OUTPUTS, WIDTH, seed), directions


def preview_of(states, seed):
    head, directions = head_of(seed)
    preview = head_preview.make_preview(head, directions)
    return head_preview.preview_input(states, directions) @ unpack_blocks(preview.blocks).t()


def is_at_a_tie(states, directions):
    """Return whether a state lies so near the middle of two of its 8-bit levels that sums in
    another order round it to the other one."""
    blocks = torch.cat((states, states @ directions), 1).double().view(-1, BLOCK)
    levels = blocks / blocks.abs().amax(1, keepdim=True) * (2 ** (STATE_BITS - 1) - 1)
    return bool(((levels - levels.floor() - 0.5).abs() < 1e-4).any())


def test_a_preview_is_close_and_closer_where_states_are_large():
    head, directions = head_of(1)
    weights = unpack_blocks(head)
    generator = torch.Generator().manual_seed(2)
    anywhere = torch.randn(64, WIDTH, generator=generator)
    along = torch.randn(64, 32, generator=generator) @ directions.t()

    def error(states):
        exact = states @ weights.t()
        return float((preview_of(states, 1) - exact).norm() / exact.norm())

    assert error(anywhere) < 0.12
    assert error(along) < 0.01


def test_outputs_within_the_margin_are_exact_and_the_others_are_not_touched():
    preview = torch.tensor([[0.0, 5.0, 5.0 - head_preview.MARGIN, 4.9 - head_preview.MARGIN]])
    exact = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    expected = torch.tensor([[1.0, 2.0, 3.0, 4.9 - head_preview.MARGIN]])
    assert torch.equal(head_preview.previewed_logits(preview, exact), expected)


def test_bytes_are_those_of_the_second_form_and_only_8_bits_have_one():
    head, directions = head_of(0)
    preview = head_preview.make_preview(head, directions)
    first = preview.packed.numel() + 4 * directions.numel()
    row = head.data[0].numel()
    assert head_preview.preview_bytes(head, 32) == (first, row)
    assert head_preview.preview_bytes(make_blocks("Q4_1", OUTPUTS, WIDTH), 32) is None
    assert head_preview.preview_bytes(make_blocks("Q8_0", OUTPUTS + 32, WIDTH), 32) is None
    assert KINDS["Q8_0"][1] * WIDTH // 32 == row


@pytest.mark.skipif(
    few_row_kernel() is None or not multiplies_quantised(), reason="Numba cannot run here"
)
@given(previewed=st.lists(st.booleans(), min_size=1, max_size=4), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_compiled_rows_are_previewed_or_whole_as_each_is_meant(previewed, seed):
    from kernels.decode_layer.head import head_rows

    head, directions = head_of(seed)
    preview = head_preview.make_preview(head, directions)
    packed = pack_blocks(head)
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(previewed), WIDTH, generator=generator)
    assume(not is_at_a_tie(states, directions))
    logits = torch.full((len(previewed), OUTPUTS), torch.nan)
    counts = np.full(len(previewed), -1)
    parts = (*(part.numpy() for part in preview[1:]), np.array(previewed), counts)
    member = Team(0, 0, 1, 4)
    from_python(head_rows)(states.numpy(), packed.numpy(), False, parts, logits.numpy(), member)

    whole, coarse = states @ unpack_blocks(head).t(), preview_of(states, seed)
    expected = head_preview.previewed_logits(coarse, whole).where(
        torch.tensor(previewed)[:, None], whole
    )
    at_the_margin = (coarse - coarse.amax(1, keepdim=True) + head_preview.MARGIN).abs() < 1e-3
    expected = expected.where(~at_the_margin, logits)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    near = coarse >= coarse.amax(1, keepdim=True) - head_preview.MARGIN
    for row, count in enumerate(near.sum(1).tolist()):
        assert counts[row] == (count if previewed[row] else -1) or at_the_margin[row].any()


@pytest.mark.skipif(
    few_row_kernel() is None or not multiplies_quantised(), reason="Numba cannot run here"
)
def test_where_thousands_are_likely_the_whole_head_is_read():
    from kernels.decode_layer.head import head_rows

    outputs = 2 * head_preview.MOST_RESCORED
    head = make_blocks("Q8_0", outputs, WIDTH)
    directions = torch.linalg.qr(torch.randn(WIDTH, 32)).Q
    preview = head_preview.make_preview(head, directions)
    states = torch.randn(2, WIDTH)
    states[0] *= 1e-3 / states[0].norm()  # all outputs come near
    logits, counts = torch.full((2, outputs), torch.nan), np.zeros(2, np.int64)
    parts = (*(part.numpy() for part in preview[1:]), np.array([True, True]), counts)
    inputs = states.numpy(), pack_blocks(head).numpy(), False
    from_python(head_rows)(*inputs, parts, logits.numpy(), Team(0, 0, 1, 4))
    whole = states @ unpack_blocks(head).t()
    assert counts[0] == outputs
    torch.testing.assert_close(logits[0], whole[0], atol=1e-6, rtol=1e-4)
    coarse = head_preview.preview_input(states, directions) @ unpack_blocks(preview.blocks).t()
    torch.testing.assert_close(
        logits, head_preview.previewed_logits(coarse, whole), atol=2e-3, rtol=1e-3
    )
