"""The CPU kernel for a few bf16 rows against fp64."""

import pytest
import torch

import kernels.linear as linear_kernels
from kernels.cpu.threads import why_no_kernels
from kernels.linear import FEW_ROWS, linear, pack_weight, packed_product, step_threads


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (15, 3), (577, 61)])
@pytest.mark.parametrize("with_kernel", [True, False])
def test_bf16_products_match_fp64(rows, inner, outer, with_kernel, monkeypatch):
    """In the kernel's layout and another, which torch multiplies after rounding the inputs."""
    assert why_no_kernels() is None
    if not with_kernel:
        monkeypatch.setattr(linear_kernels, "cpu_kernel", lambda module, name: None)
    weight, inputs = torch.randn(outer, inner).bfloat16().t(), torch.randn(rows, inner)
    for laid in (weight, weight.contiguous()):
        exact = with_kernel and rows <= FEW_ROWS and laid.t().is_contiguous()
        expected = inputs.double() @ laid.double()
        if not exact:
            expected = (inputs.bfloat16() @ laid).double()
        torch.testing.assert_close(linear(inputs, laid).double(), expected, rtol=1e-4, atol=1e-4)
    inputs[0] = torch.nan
    assert linear(inputs, weight)[0].isnan().all()


def test_thread_count_is_restored():
    threads = torch.get_num_threads()
    weight = torch.ones(4, 32).bfloat16().t()
    with step_threads(1, weight):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("inner", "outer"), [(15, 3), (96, 130)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_packed_weights_give_the_same_product(inner, outer, with_bias):
    weight = torch.randn(outer, inner).bfloat16().t()
    bias = torch.randn(outer).bfloat16() if with_bias else None
    arranged = pack_weight(weight, 16)
    if arranged is None:
        pytest.skip("this CPU or torch has no packed bf16 products")
    for shape in ((16, inner), (1, 5, inner)):
        inputs = torch.randn(shape)
        expected = inputs.bfloat16().double() @ weight.double()
        if bias is not None:
            expected += bias.double()
        found = packed_product(inputs, arranged, bias)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)


def test_what_cannot_be_packed_says_so(monkeypatch, caplog):
    assert pack_weight(torch.ones(4, 4), 16) is None  # fp32: nothing to gain

    def fail(*arguments):
        raise RuntimeError("no such operator")

    linear_kernels._packs.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(linear_kernels, "packed_product", fail)
        for _ in range(2):
            assert pack_weight(torch.ones(4, 4).bfloat16(), 16) is None
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert caplog.text.count("no such operator") == 1
    linear_kernels._packs.cache_clear()
