"""The CPU kernel for a few bf16 rows against fp64."""

from __future__ import annotations

import pytest
import torch

import kernels.linear as linear_kernels
from kernels.linear import FEW_ROWS, linear, packed, step_threads
from kernels.linear.packed import pack_weight, packed_product


@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS])
@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (15, 3), (96, 130), (577, 61)])
def test_few_bf16_rows_match_fp64(rows: int, inner: int, outer: int) -> None:
    weight = torch.randn(outer, inner).bfloat16().t()
    inputs = torch.randn(rows, inner)
    expected = inputs.double() @ weight.double()
    torch.testing.assert_close(linear(inputs, weight).double(), expected, rtol=1e-4, atol=1e-4)


def test_the_kernel_runs_here() -> None:
    assert linear_kernels._cpu_kernel() is not None


def test_nan_and_infinity_survive() -> None:
    weight = torch.ones(4, 32).bfloat16().t()
    inputs = torch.zeros(2, 32)
    inputs[0, 3], inputs[1, 5] = torch.nan, torch.inf
    found = linear(inputs, weight)
    assert found[0].isnan().all()
    assert found[1].isposinf().all()


@pytest.mark.parametrize("rows", [1, FEW_ROWS + 1])
def test_other_layouts_and_sizes_go_to_torch(rows: int) -> None:
    weight = torch.randn(24, 40).bfloat16()  # contiguous: not the kernel's layout
    inputs = torch.randn(rows, 24)
    assert torch.equal(linear(inputs, weight), inputs.bfloat16() @ weight)


def test_without_the_kernel_torch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_kernels, "_cpu_kernel", lambda: None)
    weight = torch.randn(24, 40).bfloat16().t()
    inputs = torch.randn(1, 40)
    assert torch.equal(linear(inputs, weight), inputs.bfloat16() @ weight)


def test_thread_count_is_restored() -> None:
    threads = torch.get_num_threads()
    weight = torch.ones(4, 32).bfloat16().t()
    with step_threads(1, weight):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("inner", "outer"), [(1, 1), (15, 3), (96, 130), (577, 61)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_packed_weights_give_the_same_product(inner: int, outer: int, with_bias: bool) -> None:
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


def test_what_cannot_be_packed_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert pack_weight(torch.ones(4, 4), 16) is None  # fp32: nothing to gain

    def fail(*arguments: object) -> torch.Tensor:
        raise RuntimeError("no such operator")

    packed._packs.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(packed, "packed_product", fail)
        for _ in range(2):
            assert pack_weight(torch.ones(4, 4).bfloat16(), 16) is None
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert caplog.text.count("no such operator") == 1
    packed._packs.cache_clear()
