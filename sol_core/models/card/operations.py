"""Checks each operation against its reference, at the loaded model's widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from kernels import activation_quantisation, channel_pruning, gated_mlp, kv_write, residual
from kernels.gpu.triton_support import OPERATIONS, replaced_operations, use_reference
from kernels.key_codes import encode_keys
from kernels.page_attention import AttentionPlan, KVBlock, attend
from kernels.page_scorers import INT4
from kernels.quantisation_levels import SCALE_BLOCK
from sol_core.models.card.small_model import Setting

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
# Rounding makes both choose other channels and pages than fp32, so their distances to fp32 are
# compared: root mean square of the differences over that of the numbers.
FARTHER = 1.2
_ALWAYS_ALLOWED = 1e-3
_USUAL = 0.75  # quantile of the steps
PAGE = 8
# Rows, tokens of each of two shared prefixes, and of each row. From 128 tokens on, a sequence is
# split between programs; from 513 pages on, another kernel ranks them.
_TEXTS = {"ragged rows": (2, 0, 72), "a long text": (1, 0, 4200), "shared prefixes": (4, 528, 24)}
_BEST_FRACTION = 0.25  # of the pages; half of them stand out
_MLP_ROWS = (1, 3, 18)


class WrongNumbersError(ArithmeticError):
    """A kernel's numbers differ from its reference's."""


def both(
    operation: Callable[P, ResultT], *given: P.args, **how: P.kwargs
) -> tuple[ResultT, ResultT]:
    """Return an operation's results as currently configured, and by references only."""
    return operation(*given, **how), by_references(operation, *given, **how)


def by_references(operation: Callable[P, ResultT], *given: P.args, **how: P.kwargs) -> ResultT:
    before = replaced_operations()
    use_reference(OPERATIONS)
    try:
        return operation(*given, **how)
    finally:
        use_reference(before)


def compare(what: str, numbers: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise WrongNumbersError beyond a tolerance, absolute for numbers below 1, else relative."""
    mine, right = numbers.float(), expected.float()
    worst = ((mine - right).abs() / right.abs().clamp(min=1)).max().item()
    if not worst <= tolerance and not torch.equal(mine, right):
        raise WrongNumbersError(f"{what} differ from the reference's by {worst:.3g}")


def check_no_farther(
    what: str,
    numbers: Tensor,
    expected: Tensor,
    exact: Tensor,
    rounding: float = _ALWAYS_ALLOWED,
    *,
    by_step: bool = False,
) -> None:
    """Raise WrongNumbersError if numbers are farther from fp32 than the reference's are, and
    farther than ``rounding``, the distance that chance alone may cause.

    Args:
        by_step: compare the 75 % quantiles of the rows' distances. In any dtype, two orders of
            summation may choose another page or channel at some steps, and both are right.
    """
    mine, right = (_distance(some, exact, by_step) for some in (numbers, expected))
    if not mine <= max(FARTHER * right, rounding):
        raise WrongNumbersError(
            f"{what} are off by {mine:.3g} of their size, those of the reference by {right:.3g}"
        )


def _distance(numbers: Tensor, exact: Tensor, by_step: bool) -> float:
    squares = (numbers.float() - exact).square(), exact.square()
    error, size = (part.mean(-1) if by_step else part.mean() for part in squares)
    return float((error / size).sqrt().quantile(_USUAL))


def check_residual(at: Setting) -> None:
    width, device = at.widths.hidden, at.device
    for rows in (1, 3):
        hidden, norm = torch.randn(rows, width, device=device), torch.rand(width, device=device)
        for update in (None, at.random(rows, width), torch.randn(rows, width, device=device)):
            for dtype in (torch.float32, at.dtype):
                entering = residual.Residual(hidden, update, norm, 1e-5)
                mine, right = both(residual.add_and_norm, entering, dtype)
                compare("the stream", mine[0], right[0], 0.0)
                rounding = 1e-4 if dtype == torch.float32 else 0.01
                compare("normalised rows", mine[1], right[1], rounding)


def check_writes(at: Setting) -> None:
    """Check ragged rows, with and without 4-bit keys."""
    angles = torch.randn(2, at.widths.head_size, device=at.device)
    still = torch.ones_like(angles), torch.zeros_like(angles)
    for turn, tolerance in ((still, 0.0), ((angles.cos(), angles.sin()), 0.01)):
        for coded in (False, True):
            written = zip(*both(_written, at, turn, coded), strict=True)
            for mine, right in list(written)[: 5 if turn is still else 3]:  # codes must be equal
                compare("a cache with 4-bit keys" if coded else "a cache", mine, right, tolerance)


def _written(at: Setting, turn: tuple[Tensor, Tensor], coded: bool) -> list[Tensor]:
    torch.manual_seed(at.seed + 1)
    widths, size = at.widths, at.widths.head_size
    keys, values = (at.random(2, widths.kv_heads, 5 * PAGE, size) for _ in range(2))
    heads = torch.randn(2, widths.heads + 2 * widths.kv_heads, size, device=at.device)
    codes, scales = (part.contiguous() for part in encode_keys(keys))
    kept = (codes, scales) if coded else None
    slots = torch.tensor([37, 12], device=at.device)
    new = kv_write.NewTokens(heads, *turn, 0.125)
    query = kv_write.rotate_and_write(new, (keys, values), slots, kept)
    return [query, keys, values, *(kept or ())]


def check_attention(at: Setting) -> None:
    """Check needed pages and all pages; needed ones stand out, so rounding chooses no others."""
    for name, (rows, shared, own) in _TEXTS.items():
        query, blocks, plan = _text(at, rows, shared, own)
        mine, right = both(attend, query, blocks, plan, _BEST_FRACTION, readers=True)
        check_no_farther(f"{name}: values", mine.mixed, right.mixed, right.mixed)
        compare(f"{name}: mass", mine.outside, right.outside, 1e-3)
        for part in ("tokens_read", "readers"):
            compare(f"{name}: {part}", getattr(mine, part), getattr(right, part), 0.0)
        mine, right = both(attend, query, blocks, AttentionPlan(PAGE, plan.valid_tokens))
        check_no_farther(f"{name}, dense: values", mine.mixed, right.mixed, right.mixed)


def _text(
    at: Setting, rows: int, shared: int, own: int
) -> tuple[Tensor, list[KVBlock], AttentionPlan]:
    """Make a query, its blocks of ``shared`` (if any) and ``own`` tokens, and a plan."""
    widths, size, device = at.widths, at.widths.head_size, at.device
    toward = torch.randn(widths.kv_heads, 1, size, device=device)
    toward = toward / toward.norm(dim=-1, keepdim=True)

    def block(sequences: int, tokens: int, sources: Tensor | None = None) -> KVBlock:
        shape = sequences, widths.kv_heads, tokens, size
        stands_out = torch.arange(tokens, device=device)[:, None] // PAGE % 2 == 0
        keys = 0.5 * torch.randn(shape, device=device) + 4.0 * toward * stands_out
        codes = (part.contiguous() for part in encode_keys(keys))
        return KVBlock(keys.to(at.dtype), at.random(*shape), sources, *codes)

    blocks = [block(rows, own)]
    if shared:
        blocks.insert(0, block(2, shared, torch.tensor([1, 0], device=device)))
    query = 2.0 * toward.repeat_interleave(widths.heads // widths.kv_heads, 0).transpose(0, 1)
    query = query + 0.3 * size**-0.5 * torch.randn(rows, widths.heads, size, device=device)
    lengths = shared + own - 5 - 3 * torch.arange(rows, device=device)
    valid = torch.arange(shared + own, device=device)[None] < lengths[:, None]
    counts = valid.unflatten(1, (-1, PAGE)).sum(-1)
    kept, floors = torch.ones_like(lengths), torch.full((rows,), 0.05, device=device)
    how = INT4, "group", floors
    return query, blocks, AttentionPlan(PAGE, valid, counts > 0, kept, counts, *how)


def check_mlp(at: Setting) -> None:
    """Check rows pruned on one side and on both, quantised at the output or at both inputs.

    A row keeps whole groups of inner channels with distant norms, so rounding chooses no others.
    """
    width, inner = at.widths.hidden, at.widths.inner
    groups = torch.randint(3, (inner,), device=at.device)
    up_to = groups.bincount(minlength=3).cumsum(0)
    gate_up = at.random(width, 2 * inner, scale=width**-0.5)
    down = at.random(inner, width, scale=inner**-0.5)
    biases = (at.random(2 * inner), at.random(width)) if at.widths.biased else (None, None)
    how = at.widths.activation, 10.0 ** (-6.0 * groups)
    weights = gated_mlp.MlpWeights(gate_up, down, biases[0], biases[1], *how)
    in_fp32 = [None if bias is None else bias.float() for bias in biases]
    exact = gated_mlp.MlpWeights(gate_up.float(), down.float(), in_fp32[0], in_fp32[1], *how)
    rounding = max(1e-3, torch.finfo(at.dtype).eps)
    for rows in _MLP_ROWS:
        hidden = torch.randn(rows, width, device=at.device)
        entering = residual.Residual(hidden, None, None, 1e-5)
        kept, bits = at.counts(width // 2, width, rows), at.counts(14, 16, rows)
        inner_kept = up_to[at.counts(0, 1, rows)]
        for plan in (
            gated_mlp.MlpPlan(kept, bits),
            gated_mlp.MlpPlan(kept, inner_kept=inner_kept),
            gated_mlp.MlpPlan(kept, bits, True, inner_kept, SCALE_BLOCK),
            gated_mlp.MlpPlan(kept, bits, True),
            gated_mlp.MlpPlan(),
        ):
            entered = gated_mlp.fused_gated_mlp(entering, weights, plan)
            if entered is None:  # too wide for kernels, or dense
                continue
            right, wide = (
                gated_mlp.reference.gated_mlp(hidden, some, plan) for some in (weights, exact)
            )
            check_no_farther(f"outputs of {rows} rows", entered[1], right, wide, rounding)
        products = at.random(rows, 2 * inner)
        mine, right = both(gated_mlp.activated, products, weights.activation)
        wide = gated_mlp.reference.activated(products.float(), weights.activation)
        check_no_farther("activations", mine, right, wide, rounding)


def check_pruning(at: Setting) -> None:
    width = at.widths.hidden
    hidden = torch.randn(3, width, device=at.device)
    kept = torch.tensor([1, width // 2, width], device=at.device)
    mine, right = both(channel_pruning.keep_largest_channels, hidden, kept)
    compare("channels", mine, right, 0.0)


def check_quantisation(at: Setting) -> None:
    bits = torch.tensor([2, 5, 8, 16], device=at.device)
    for width in (at.widths.hidden, at.widths.inner):
        rows = at.random(4, width)
        for block in (0, SCALE_BLOCK):
            mine, right = both(activation_quantisation.fake_quantise, rows, bits, block)
            compare("activations", mine, right, 0.0)
