"""The self-test's numbers, on the interpreter: right kernels pass it, and wrong ones do not."""

import logging
from functools import partial

import pytest
import torch

from kernels.gpu import triton_support
from kernels.gpu.triton_support import OPERATIONS, replaced_operations, use_reference
from kernels.page_attention import triton_dispatch
from sol_core.models.card import checks, operations
from sol_core.models.card.checks import STEPS
from sol_core.models.card.operations import WrongNumbersError
from sol_core.models.card.small_model import SMALL, Setting, Widths
from tests.kernels.triton_cases import DTYPES, triton_here
from tests.sol_core.models.card.mutants import MUTATIONS, RESULTS, spoilt, too_few, zeroed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NaN in wrong numbers
CPU = torch.device("cpu")
TINY = Widths(64, 96, 3, 1, 32)
GELU = TINY._replace(activation="gelu_tanh")
LONG = TINY._replace(inner=1100)
CHECKED = {
    "prepare_rows": "add_and_norm",
    "rank_rows": "gated_mlp",
    "rotate_and_write_rows": "rotate_and_write",
    **dict.fromkeys(("list_channels", "multiply_rows", "activate_rows"), "gated_mlp"),
}


def _gated(only):
    """Of products with gate and up."""
    return lambda given, how: how["GATED"] and only(given, how)


def _down(only):
    return lambda given, how: not how["GATED"] and only(given, how)


def _pruning(only):
    """Of inner channels."""
    return lambda given, how: how["PRUNED"] and given["weighted"] and only(given, how)


@pytest.fixture(autouse=True)
def _on_triton(monkeypatch):
    monkeypatch.setattr(operations, "_MLP_ROWS", (1, 3))  # the interpreter takes seconds
    monkeypatch.setattr(triton_dispatch, "TOKENS_PER_SPLIT", 256)
    with triton_here():
        yield
    use_reference(())


def _check(operation, dtype=torch.bfloat16, widths=TINY, seed=0):
    checks.run_check(operation, Setting(CPU, dtype, widths, seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_right_kernels_pass(operation, dtype):
    _check(operation, dtype)
    assert not replaced_operations()


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", DTYPES)
def test_right_kernels_pass_with_any_numbers(dtype, monkeypatch):
    monkeypatch.setattr(operations, "_MLP_ROWS", (1, 3, 18))
    for seed in range(20):
        for operation in OPERATIONS:
            _check(operation, dtype, SMALL, seed)


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_with_right_kernels_pass_with_any_numbers(dtype):
    """Laid out as on a card, all steps."""
    for seed in range(5):
        _check(STEPS, dtype, SMALL, seed)


def test_steps_that_chose_otherwise_by_rounding_are_right_and_a_row_in_three_is_not():
    exact = torch.randn(96, 50, generator=torch.Generator().manual_seed(0))
    compared = partial(operations.check_no_farther, "steps", by_step=True)
    compared(exact + (torch.arange(96) % 24 == 0)[:, None], exact, exact)
    with pytest.raises(WrongNumbersError, match="steps are off by"):
        compared(exact + (torch.arange(96) % 3 == 0)[:, None], exact, exact)
    with pytest.raises(WrongNumbersError):
        compared(exact + torch.nan, exact, exact)


def test_steps_with_right_kernels_pass(monkeypatch):
    monkeypatch.setattr(checks, "_NUM_STEPS", 1)
    _check(STEPS, torch.float32)


def test_steps_with_wrong_ones_do_not(monkeypatch):
    monkeypatch.setattr(checks, "_NUM_STEPS", 1)
    for kind in ("dense", "sparse"):
        wrong = spoilt(
            "multiply_rows",
            too_few,
            lambda _, how, kind=kind: not how["GATED"] and how["LISTED"] == (kind == "sparse"),
        )
        with wrong, pytest.raises(WrongNumbersError, match=f"{kind} steps"):
            _check(STEPS, torch.float32)


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.parametrize("kernel", RESULTS)
def test_a_wrong_kernel_is_noticed(kernel, mutate):
    with spoilt(kernel, mutate) as times, pytest.raises(WrongNumbersError):
        _check(CHECKED.get(kernel, "page_attention"))
    assert times


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.parametrize(
    ("operation", "kernel", "only"),
    [
        ("fake_quantise", "prepare_rows", lambda given, _: given["quantising"]),
        ("keep_largest_channels", "prepare_rows", lambda _, chosen: chosen["PRUNED"]),
        ("gated_mlp", "prepare_rows", lambda given, how: how["PRUNED"] and given["weighted"]),
        ("gated_mlp", "multiply_rows", lambda _, chosen: chosen["GATED"]),
        ("gated_mlp", "multiply_rows", lambda _, chosen: not chosen["GATED"]),
    ],
)
def test_a_kernel_that_is_wrong_for_one_operation_is_noticed(operation, kernel, only, mutate):
    with spoilt(kernel, mutate, only) as times, pytest.raises(WrongNumbersError):
        _check(operation)
    assert times


@pytest.mark.parametrize("result", ["keys", "thresholds"])
def test_wrong_ranks_of_wide_rows_are_noticed(result, monkeypatch):
    monkeypatch.setattr("kernels.residual.MAX_AT_ONCE", 32)
    for operation in ("keep_largest_channels", "gated_mlp"):
        with spoilt("rank_rows", zeroed, results=[result]) as times:
            with pytest.raises(WrongNumbersError):
                _check(operation)
            assert times


@pytest.mark.parametrize("mutate", [too_few, zeroed])
@pytest.mark.parametrize(
    ("kernel", "only", "widths"),
    [
        ("attend_pages", lambda given, _: given["all_splits"] > 1, TINY),
        ("attend_pages", lambda given, _: given["has_sources"], TINY),
        ("attend_pages", lambda given, _: given["head_size"] == 256, TINY._replace(head_size=256)),
        ("mass_outside_pages", lambda _, chosen: chosen["BLOCK_P"] == 4096, TINY),
        ("weigh_pages", lambda given, _: given["first_page"], TINY),
        ("multiply_rows", _gated(lambda given, _: given["biased"]), TINY._replace(biased=True)),
        ("multiply_rows", _gated(lambda _, how: how["PREPARES"] and how["LISTED"]), TINY),
        ("multiply_rows", _gated(lambda _, how: not how["LISTED"]), TINY),
        ("multiply_rows", _gated(lambda given, _: not given["silu"]), GELU),
        ("multiply_rows", _down(lambda given, _: given["biased"]), TINY._replace(biased=True)),
        ("multiply_rows", _down(lambda given, how: how["PREPARES"] and given["quantising"]), TINY),
        (
            "activate_rows",
            lambda given, _: not given["silu"],
            TINY._replace(activation="gelu_tanh"),
        ),
        ("prepare_rows", _pruning(lambda given, _: given["quantising"]), TINY),
        ("prepare_rows", _pruning(lambda given, _: given["width"] > 1024), LONG),
    ],
)
def test_a_kernel_that_is_wrong_in_one_case_is_noticed(kernel, only, widths, mutate):
    """Of many splits, shared prefixes, heads of 256, more than 512 pages, biases, gelu, …"""
    operation = "gated_mlp" if kernel == "prepare_rows" else CHECKED.get(kernel, "page_attention")
    with spoilt(kernel, mutate, only) as times, pytest.raises(WrongNumbersError):
        _check(operation, widths=widths)
    assert times


@pytest.mark.parametrize("mutate", [too_few, zeroed])
def test_a_quantisation_that_is_wrong_by_blocks_is_noticed(mutate):
    by_blocks = spoilt("prepare_rows", mutate, lambda _, chosen: chosen["QUANT_BLOCK"] > 0)
    with by_blocks as times, pytest.raises(WrongNumbersError):
        _check("fake_quantise")
    assert times


def test_wrong_page_readers_and_quantised_inputs_are_noticed():
    for result in ("readings", "tokens_read", "group_keys"):
        with spoilt("weigh_pages", zeroed, results=[result]), pytest.raises(WrongNumbersError):
            _check("page_attention")
    quantised = spoilt(
        "prepare_rows", too_few, lambda given, how: how["PRUNED"] and not given["weighted"]
    )
    with quantised, pytest.raises(WrongNumbersError):
        _check("gated_mlp")


def test_a_kernel_that_does_not_start_replaces_its_operation(monkeypatch, caplog):
    """At run time, with the right result; in the self-test it is an error."""
    from triton.runtime.errors import OutOfResources

    class TooLarge:
        __name__ = "multiply_rows"

        def __getitem__(self, grid):
            raise OutOfResources(300_000, 101_376, "shared memory")

    monkeypatch.setattr("kernels.gated_mlp.triton_kernel.multiply_rows", TooLarge())
    with pytest.raises(triton_support.KernelNotStartedError, match="multiply_rows: OutOfRes"):
        _check("gated_mlp")
    assert not replaced_operations()
    triton_support._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(checks, "_NUM_STEPS", 1)
        made = checks._logits_of_steps(
            Setting(CPU, torch.float32, TINY), checks.small_tensors(TINY)
        )
    assert replaced_operations() == {"gated_mlp"}
    assert "multiply_rows: OutOfResources: out of resource: shared memory" in caplog.text
    use_reference(OPERATIONS)
    right = checks._logits_of_steps(Setting(CPU, torch.float32, TINY), checks.small_tensors(TINY))
    for kind, logits in right.items():
        torch.testing.assert_close(made[kind], logits, rtol=1e-3, atol=1e-3)
