"""An estimate of what a decode step would take on a GPU that need not be there.

Per kernel the bytes it must move and the FLOPs it must do give a floor: the larger of
bytes over memory bandwidth and FLOPs over peak rate (Williams et al., *Roofline*, 2009).
The floors of all launches add up to a step's. An *estimate*, and an optimistic one: no
launch overhead, every read at full bandwidth, scratch that stays in the cache counted
as if it did not. Plain numbers in and out; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernels.page_scorers import PagesToScore
from sol_core.actions import DENSE, PAPER, Action, Mechanisms, ceil_fraction
from sol_core.errors import ConfigError

CONTEXTS = (512, 2048, 8192, 32_768, 131_072)
BUDGETS = (1.0, 0.75, 0.5, 0.3)
_FLOAT = 4
_SCRATCH = 4  # bytes of an int32


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its data sheet: bytes per second of memory, dense bf16 FLOPs per second."""

    name: str
    bandwidth: float
    flops: float


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes on which a step's cost depends."""

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int


@dataclass(frozen=True, slots=True)
class KernelCost:
    """All launches of one kernel in one decode step.

    Attributes:
        kernel: a Triton kernel's name, or "library: …" for a product left to cuBLAS.
        part: attention, mlp, head or rest.
        launches: per step.
        bytes_moved, flops: of all launches together.
    """

    kernel: str
    part: str
    launches: int
    bytes_moved: float
    flops: float

    def floor_us(self, card: Card) -> float:
        """Microseconds that all launches together take at least."""
        return 1e6 * max(self.bytes_moved / card.bandwidth, self.flops / card.flops)


@dataclass(frozen=True, slots=True)
class _Step:
    """Arguments of ``kernel_costs``."""

    shape: ModelShape
    action: Action
    tokens: int
    page_size: int
    mechanisms: Mechanisms

    @property
    def pages(self) -> int:
        return -(-self.tokens // self.page_size)

    @property
    def pages_kept(self) -> int:
        return -(-ceil_fraction(self.action.keep_fraction, self.tokens) // self.page_size)


CARDS = {
    card.name: card for card in (Card("H100", 3.35e12, 989e12), Card("A100", 2.039e12, 312e12))
}
MODELS = {
    shape.name: shape
    for shape in (
        ModelShape("SmolLM2-135M", 49_152, 576, 1536, 30, 9, 3, 64),
        ModelShape("Llama-3.2-1B", 128_256, 2048, 8192, 16, 32, 8, 64),
        ModelShape("Llama-3.1-8B", 128_256, 4096, 14_336, 32, 32, 8, 128),
    )
}


def kernel_costs(
    shape: ModelShape,
    action: Action,
    cached_tokens: int,
    *,
    page_size: int = 8,
    mechanisms: Mechanisms = PAPER,
) -> list[KernelCost]:
    """Every kernel of one decode step of one text, in 16-bit weights and cache.

    Heads that share a KV head are taken to choose the same pages.

    Args:
        cached_tokens: tokens in the cache, the new one included.
        mechanisms: how the step skips what its action drops.
    Raises: ConfigError for counts below 1.
    """
    for name, value in (("cached_tokens", cached_tokens), ("page_size", page_size)):
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    step = _Step(shape, action, cached_tokens, page_size, mechanisms)
    return [*_projections(shape), *_attention(step), *_mlp(step)]


def step_floor_us(costs: Sequence[KernelCost], card: Card) -> dict[str, float]:
    """Microseconds by part, and "total"."""
    parts = {part: 0.0 for part in ("attention", "mlp", "head", "rest")}
    for cost in costs:
        parts[cost.part] += cost.floor_us(card)
    return {**parts, "total": sum(parts.values())}


def estimate_table(
    shape: ModelShape, card: Card, mechanisms: Mechanisms = PAPER
) -> list[dict[str, Any]]:
    """Estimated step times, one record per context and budget (κ = ρ), JSON-ready."""
    table = []
    for context in CONTEXTS:
        dense = 0.0
        for budget in BUDGETS:
            action = DENSE if budget == 1 else Action(budget, budget)
            costs = kernel_costs(shape, action, context, mechanisms=mechanisms)
            floor = step_floor_us(costs, card)
            dense = dense or floor["total"]
            table.append(
                {
                    "context": context,
                    "budget": budget,
                    "bytes": sum(cost.bytes_moved for cost in costs),
                    "flops": sum(cost.flops for cost in costs),
                    "step_us": floor["total"],
                    "speedup": dense / floor["total"],
                }
            )
    return table


def _projections(shape: ModelShape) -> list[KernelCost]:
    layers, width = shape.num_layers, shape.hidden_size
    query = shape.num_heads * shape.head_size
    key_value = 2 * shape.num_kv_heads * shape.head_size
    norms = 2 * layers + 1
    return [
        _product("library: query, key, value", "attention", layers, width, query + key_value),
        _product("library: attention output", "attention", layers, query, width),
        _product("library: head", "head", 1, width, shape.vocab_size),
        KernelCost("rms_norm_rows", "rest", norms, 3 * norms * width * _FLOAT, 0.0),
    ]


def _product(kernel: str, part: str, launches: int, inner: int, outer: int) -> KernelCost:
    """A product of one row with an [inner, outer] matrix in 16 bits, read once."""
    moved = 2 * (inner * outer + inner + outer)
    return KernelCost(kernel, part, launches, launches * moved, launches * 2 * inner * outer)


def _attention(step: _Step) -> list[KernelCost]:
    shape, layers, kept = step.shape, step.shape.num_layers, step.pages_kept
    key_value, query = shape.num_kv_heads * shape.head_size, shape.num_heads * shape.head_size
    tokens = min(step.tokens, kept * step.page_size)
    # fp32 key and value in, 16-bit ones out; bounds in and out, or one more 4-bit key.
    written: float = key_value * (8 + 4)
    if read := step.mechanisms.scorer.reads:
        written += {"bounds": 8 * key_value, "codes": key_value / 2 + 4 * shape.num_kv_heads}[read]
    costs = [
        KernelCost("write_rows", "attention", layers, layers * written, 0.0),
        KernelCost(
            "attend_pages", "attention", layers,
            layers * (4 * key_value * tokens + 2 * query * _FLOAT),
            layers * 4.0 * query * tokens,
        ),
    ]  # fmt: skip
    return costs if kept == step.pages else [*costs, *_choice(step, query)]


def _choice(step: _Step, query: int) -> list[KernelCost]:
    """Scores of pages for every head, and the choice for heads or KV groups."""
    shape, layers = step.shape, step.shape.num_layers
    scored = shape.num_heads * step.pages * _SCRATCH
    scorer, key_value = step.mechanisms.scorer, shape.num_kv_heads * shape.head_size
    flops, read = scorer.cost(
        PagesToScore(query, key_value, shape.num_kv_heads, step.tokens, step.pages, 2)
    )
    kernel = scorer.triton_kernel or f"reference: pages by {scorer.name}"
    costs = [KernelCost(kernel, "attention", layers, layers * (read + scored), layers * flops)]
    ranked = scored
    if step.mechanisms.page_choice == "group":
        ranked = shape.num_kv_heads * step.pages * _SCRATCH
        costs.append(
            KernelCost("share_pages", "attention", layers, layers * (scored + ranked), 0.0)
        )
    costs += [
        KernelCost(kernel, "attention", layers, layers * ranked, 0.0)
        for kernel in ("choose_pages", "list_pages")
    ]
    if step.mechanisms.page_choice == "head":  # pages that any head of a group chose are counted
        costs.append(KernelCost("count_union", "attention", layers, layers * ranked, 0.0))
    return costs


def _mlp(step: _Step) -> list[KernelCost]:
    shape = step.shape
    layers, width, inner = shape.num_layers, shape.hidden_size, shape.intermediate_size
    shares = step.mechanisms.mlp_shares(step.action.channel_keep_ratio)
    kept, inner_kept = ceil_fraction(shares[0], width), ceil_fraction(shares[1], inner)
    if (kept, inner_kept) == (width, inner):
        return [
            _product("library: gate and up", "mlp", layers, width, 2 * inner),
            _product("library: down", "mlp", layers, inner, width),
        ]
    lists, listed = 1, width * 2 + kept * _SCRATCH
    costs = []
    if step.mechanisms.pruner.keep_inner:
        lists, listed = 2, listed + inner * 2 + inner_kept * _SCRATCH
        # Activations and norms in, zeros out.
        pruned = inner * (2 + _FLOAT) + (inner - inner_kept) * 2
        costs = [KernelCost("keep_heaviest_rows", "mlp", layers, layers * pruned, 0.0)]
    row = layers * width
    return [
        KernelCost("prepare_rows", "mlp", layers, row * (_FLOAT + 2), 0.0),
        KernelCost("list_channels", "mlp", lists * layers, layers * listed, 0.0),
        _product("gate_up_rows", "mlp", layers, kept, 2 * inner),
        *costs,
        _product("down_rows", "mlp", layers, inner_kept, width),
        KernelCost("finish_rows", "mlp", layers, row * (_FLOAT + 2), 0.0),
    ]
