"""Checks of this card: every operation's Triton kernels, whole decode steps, and their graphs.

``python -m sol_core.models.card.checks DEVICE DTYPE CHECK…`` prints JSON lines up to the first
error, which spoils all that a process does afterwards. The device "cpu" is Triton's interpreter.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from kernels import activation_quantisation, channel_pruning, gated_mlp, kv_write, residual
from kernels.gated_mlp import MlpPlan, MlpWeights
from kernels.gated_mlp.reference import gated_mlp as mlp_reference
from kernels.gpu.triton_support import OPERATIONS, triton_on_cpu, use_reference
from kernels.key_codes import encode_keys
from kernels.kv_write import NewTokens
from kernels.page_attention import AttentionPlan, KVBlock, attend
from kernels.quantisation_levels import SCALE_BLOCK
from kernels.residual import Residual
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action
from sol_core.models.decoder import FrozenLM
from sol_core.models.devices import DTYPES
from sol_core.models.spec import plain_llama
from sol_core.models.step.graph import StepGraphs
from sol_core.models.weights import arrange_weights

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
STEPS = "steps"  # eager decode steps against the references'
GRAPHS = "graphs"  # steps in CUDA graphs against eager ones
CHECKS = (*OPERATIONS, STEPS, GRAPHS)

_PAGE = 8
_NUM_STEPS = 32  # dense, and as many sparse
_CONTEXT = 100
# Root mean square of the differences over that of the numbers. Rounding may drop another channel
# or page; a wrong kernel gives unrelated numbers, about 1.4.
_MLP_DIFFERS = {torch.float32: 0.002, torch.bfloat16: 0.05, torch.float16: 0.05}
_STEPS_DIFFER = 0.1

# The proportions of a small Llama: the kernels for one text ask for whole vectors of channels.
SMALL_SPEC = plain_llama(
    256,
    vocab_size=64,
    hidden_size=192,
    intermediate_size=256,
    num_layers=3,
    num_heads=3,
    num_kv_heads=1,
    head_size=64,
)


class WrongNumbersError(ArithmeticError):
    """A kernel's numbers are not its reference's."""


def run_check(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Run one of ``CHECKS``. Raises: WrongNumbersError; whatever a compiler or CUDA raises."""
    torch.manual_seed(0)
    _CHECKS[name](device, dtype)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # an error of a launch is raised here at the latest


def check_lines(names: Sequence[str], device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    """Run some of ``CHECKS`` in order, up to the first error; yield the lines of the module."""
    with triton_on_cpu() if device.type == "cpu" else contextlib.nullcontext():
        for name in names:
            yield json.dumps([name])
            try:
                run_check(name, device, dtype)
            except Exception as error:  # of Triton's compiler, its tools or CUDA, of many kinds
                lines = str(error).strip().splitlines() or [""]
                yield json.dumps([name, f"{type(error).__name__}: {lines[-1][:200]}"])
                return
            yield json.dumps([name, None])


def _both(
    operation: Callable[P, ResultT], *given: P.args, **how: P.kwargs
) -> tuple[ResultT, ResultT]:
    """The results of an operation by its kernels and by its reference."""
    mine = operation(*given, **how)
    use_reference(OPERATIONS)
    try:
        return mine, operation(*given, **how)
    finally:
        use_reference(())


def _check_residual(device: torch.device, dtype: torch.dtype) -> None:
    for width in (96, 2048):
        hidden, norm = torch.randn(3, width, device=device), torch.rand(width, device=device)
        for update in (None, _random((3, width), device, dtype)):
            entering = Residual(hidden, update, norm, 1e-5)
            mine, right = _both(residual.add_and_norm, entering)
            _compare("the stream", mine[0], right[0], 0.0)
            _compare("normalised rows", mine[1], right[1], 1e-4)


def _check_writes(device: torch.device, dtype: torch.dtype) -> None:
    """Heads of ragged rows, with and without 4-bit keys."""
    angles = torch.randn(2, 64, device=device)
    still = torch.ones_like(angles), torch.zeros_like(angles)
    for turn, tolerance in ((still, 0.0), ((angles.cos(), angles.sin()), 0.01)):
        for coded in (False, True):
            written = zip(*_both(_written, device, dtype, turn, coded), strict=True)
            for mine, right in list(written)[: 5 if turn is still else 3]:  # codes must be equal
                _compare("a cache with 4-bit keys" if coded else "a cache", mine, right, tolerance)


def _written(
    device: torch.device, dtype: torch.dtype, turn: tuple[Tensor, Tensor], coded: bool
) -> list[Tensor]:
    torch.manual_seed(1)
    keys, values = (_random((2, 2, 5 * _PAGE, 64), device, dtype) for _ in range(2))
    new = NewTokens(torch.randn(2, 7, 64, device=device), *turn, 0.125)
    codes = _contiguous(encode_keys(keys)) if coded else None
    slots = torch.tensor([37, 12], device=device)
    query = kv_write.rotate_and_write(new, (keys, values), slots, codes)
    return [query, keys, values, *(codes or ())]


def _check_attention(device: torch.device, dtype: torch.dtype) -> None:
    """Ragged rows with masked pages: few of them, those that are needed, and all."""
    tokens, lengths = 9 * _PAGE, torch.tensor([[67], [41]], device=device)
    valid = torch.arange(tokens, device=device)[None] < lengths
    counts = valid.unflatten(1, (-1, _PAGE)).sum(-1)
    for head_size in (64, 128):
        keys, values = (_random((2, 2, tokens, head_size), device, dtype) for _ in range(2))
        block = KVBlock(keys, values, None, *_contiguous(encode_keys(keys)))
        query = torch.randn(2, 6, head_size, device=device) * head_size**-0.5
        kept = torch.tensor([1, 1], device=device)
        how = "int4", "group", torch.tensor([0.8, 0.5], device=device)
        plan = AttentionPlan(_PAGE, valid, counts > 0, kept, counts, *how)
        mine, right = _both(attend, query, [block], plan, 0.4)
        named = f"head size {head_size}"
        _compare(f"{named}: values", mine.mixed, right.mixed, 1e-3)
        _compare(f"{named}: mass", mine.outside, right.outside, 1e-3)
        assert mine.tokens_read is not None
        assert right.tokens_read is not None
        _compare(f"{named}: tokens read", mine.tokens_read, right.tokens_read, 0.0)
        dense = AttentionPlan(_PAGE, valid)
        mine, right = _both(attend, query, [block], dense)
        _compare(f"head size {head_size}, dense", mine.mixed, right.mixed, 1e-3)


def _check_mlp(device: torch.device, dtype: torch.dtype) -> None:
    """One row and many, pruned on one side and on both, quantised at the output."""
    width, inner = 256, 512
    weights = MlpWeights(
        _random((width, 2 * inner), device, dtype, width**-0.5),
        _random((inner, width), device, dtype, inner**-0.5),
        down_norms=torch.rand(inner, device=device),
    )
    for rows in (1, 18):
        hidden = torch.randn(rows, width, device=device)
        kept, inner_kept, bits = (
            torch.randint(low, high, (rows,), device=device)
            for low, high in ((8, width), (8, inner), (14, 17))
        )
        for plan in (MlpPlan(kept, bits), MlpPlan(kept, None, inner_kept=inner_kept)):
            entered = gated_mlp.fused_gated_mlp(Residual(hidden, None, None, 1e-5), weights, plan)
            assert entered is not None
            expected = mlp_reference(hidden, weights, plan)
            _compare_sizes(f"outputs of {rows} rows", entered[1], expected, _MLP_DIFFERS[dtype])


def _check_pruning(device: torch.device, dtype: torch.dtype) -> None:
    hidden = torch.randn(3, 600, device=device)
    kept = torch.tensor([1, 300, 600], device=device)
    mine, right = _both(channel_pruning.keep_largest_channels, hidden, kept)
    _compare("channels", mine, right, 0.0)


def _check_quantisation(device: torch.device, dtype: torch.dtype) -> None:
    rows, bits = _random((4, 600), device, dtype), torch.tensor([2, 5, 8, 16], device=device)
    for block in (0, SCALE_BLOCK):
        mine, right = _both(activation_quantisation.fake_quantise, rows, bits, block)
        _compare("activations", mine, right, 0.0)


def _check_steps(device: torch.device, dtype: torch.dtype) -> None:
    mine, right = _both(_logits_of_steps, device, dtype, None)
    for kind in ("dense", "sparse"):
        _compare_sizes(f"logits of {kind} steps", mine[kind], right[kind], _STEPS_DIFFER)


def _check_graphs(device: torch.device, dtype: torch.dtype) -> None:
    graphs = StepGraphs.make(device)
    if graphs is None:
        return
    graphed, alone = (_logits_of_steps(device, dtype, some) for some in (graphs, None))
    for name in ("dense", "sparse"):
        _compare(f"{name} steps in CUDA graphs", graphed[name], alone[name], 0.0)
    if graphs.failure is not None:
        raise WrongNumbersError(graphs.failure)


_CHECKS: dict[str, Callable[[torch.device, torch.dtype], None]] = {
    "add_and_norm": _check_residual,
    "rotate_and_write": _check_writes,
    "page_attention": _check_attention,
    "gated_mlp": _check_mlp,
    "keep_largest_channels": _check_pruning,
    "fake_quantise": _check_quantisation,
    STEPS: _check_steps,
    GRAPHS: _check_graphs,
}


def _logits_of_steps(
    device: torch.device, dtype: torch.dtype, graphs: StepGraphs | None
) -> dict[str, Tensor]:
    """Logits [steps, V] of dense and of sparse steps of a small model, after a prefill."""
    weights = arrange_weights(small_tensors(), SMALL_SPEC, dtype, lambda t: t.to(device))
    lm = FrozenLM(SMALL_SPEC, weights)
    lm.graphs = graphs
    tokens = torch.arange(_CONTEXT + _NUM_STEPS, device=device) * 7 % SMALL_SPEC.vocab_size
    how, made = GRIDS[DEFAULT_GRID].mechanisms, {}
    for name, action in (("dense", DENSE), ("sparse", Action(0.5, 0.5))):
        cache = lm.new_cache(1, _CONTEXT + _NUM_STEPS)
        lm.prefill(tokens[None, :_CONTEXT], cache)
        logits = [
            lm.decode_step(tokens[at : at + 1], cache, action, mechanisms=how).logits
            for at in range(_CONTEXT, _CONTEXT + _NUM_STEPS)
        ]
        made[name] = torch.cat(logits)
    return made


def small_tensors() -> dict[str, Tensor]:
    """Random weights of ``SMALL_SPEC``, with which kernels are compiled and checked."""
    generator = torch.Generator().manual_seed(0)
    size, spec = SMALL_SPEC.hidden_size, SMALL_SPEC
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (spec.vocab_size, size)}
    tensors = {"model.norm.weight": torch.ones(size)}
    for layer in range(spec.num_layers):
        name = f"layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.{name}.{norm}.weight"] = torch.ones(size)
        shapes |= {
            f"{name}.self_attn.q_proj": (spec.query_width, size),
            f"{name}.self_attn.k_proj": (spec.kv_width, size),
            f"{name}.self_attn.v_proj": (spec.kv_width, size),
            f"{name}.self_attn.o_proj": (size, spec.query_width),
            f"{name}.mlp.gate_proj": (spec.intermediate_size, size),
            f"{name}.mlp.up_proj": (spec.intermediate_size, size),
            f"{name}.mlp.down_proj": (size, spec.intermediate_size),
        }
    for name, shape in shapes.items():
        tensors[f"model.{name}.weight"] = 0.1 * torch.randn(shape, generator=generator)
    return tensors


def _random(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, scale: float = 1.0
) -> Tensor:
    return (torch.randn(shape, device=device) * scale).to(dtype)


def _contiguous(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].contiguous(), pair[1].contiguous()


def _compare_sizes(what: str, numbers: Tensor, expected: Tensor, tolerance: float) -> None:
    mine, right = numbers.float(), expected.float()
    difference = ((mine - right).square().mean() / right.square().mean()).sqrt().item()
    if not difference <= tolerance:
        raise WrongNumbersError(
            f"{what} differ from the reference's by {difference:.3g} of their size"
        )


def _compare(what: str, numbers: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise WrongNumbersError beyond a tolerance, absolute for numbers below 1, else relative."""
    mine, right = numbers.float(), expected.float()
    worst = ((mine - right).abs() / right.abs().clamp(min=1)).max().item()
    if not worst <= tolerance and not torch.equal(mine, right):
        raise WrongNumbersError(f"{what} differ from the reference's by {worst:.3g}")


if __name__ == "__main__":
    for _line in check_lines(sys.argv[3:], torch.device(sys.argv[1]), DTYPES[sys.argv[2]]):
        sys.stdout.write(_line + "\n")
        sys.stdout.flush()
