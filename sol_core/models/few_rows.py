"""One decode step of up to four rows on the CPU, through kernels that skip what is dropped.

The same step as ``FrozenLM`` runs from the reference operations: two compiled calls per
layer and one for the head, on arrays that are prepared once per model. A pruned channel's
gate and up weights and an unselected page's keys and values are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from kernels.cpu_threads import kernel_threads
from kernels.decode_layer import (
    DTYPES,
    Kernels,
    as_array,
    as_lines,
    few_row_kernels,
    lies_out_major,
)
from sol_core.actions import Action, QuantSite, ceil_fraction
from sol_core.models.signals import BEST_PAGES
from sol_core.models.step_plan import pages_kept
from sol_core.step_clock import Lap

if TYPE_CHECKING:
    from kernels.decode_layer.attention import AttentionWeights, CacheBlock, StepRows
    from kernels.decode_layer.mlp import MlpWeights
    from sol_core.cache import KVCache
    from sol_core.layer_store import LayerStore
    from sol_core.models.spec import ModelSpec
    from sol_core.models.weights import LayerWeights, Linear, ModelWeights

__all__ = ["FewRowStep", "StepRequest"]


class StepRequest(NamedTuple):
    """What a step is asked to do besides feeding its tokens; see ``FrozenLM.decode_step``."""

    actions: Sequence[Action]
    quant_site: QuantSite
    observe: bool
    lap: Lap


class FewRowStep:
    """A model's weights as the kernels take them."""

    def __init__(self, spec: ModelSpec, weights: ModelWeights, kernels: Kernels) -> None:
        self._spec, self._kernels = spec, kernels
        self._layers = [
            (_attention_weights(layer, spec), _mlp_weights(layer, spec)) for layer in weights.layers
        ]
        self._head = _matrix(weights.head)
        self._vocab_size = weights.head.weight.shape[1]
        self._mid_layers = (spec.num_layers // 3, 2 * spec.num_layers // 3)

    @staticmethod
    def make(spec: ModelSpec, weights: ModelWeights) -> FewRowStep | None:
        """For a model whose weights the kernels can take, where they can run; else None."""
        head = weights.head.weight
        if head.device.type != "cpu" or head.dtype not in DTYPES or weights.head.bias is not None:
            return None
        for layer in weights.layers:
            layouts = {
                lies_out_major(linear.weight)
                for linear in (layer.query_key_value, layer.attention_output, layer.down)
            }
            biased = layer.gate_up.bias is not None or layer.down.bias is not None
            if biased or None in layouts or len(layouts) > 1:
                return None
        kernels = None if lies_out_major(head) is None else few_row_kernels()
        return None if kernels is None else FewRowStep(spec, weights, kernels)

    def run(
        self, hidden: Tensor, angles: dict[Any, Any], cache: KVCache, request: StepRequest
    ) -> tuple[Tensor | None, Tensor | None]:
        """All layers of one step; the cache is written but not advanced.

        Args:
            hidden: [R, C] fp32, contiguous, embedded tokens; becomes the residual stream.
            angles: per rope [2, R, D] float32 numpy, cosine and sine.
        Returns: attention concentration [R, num_layers] and middle hidden states
            [R, 2, C], or None twice unless the step is observed.
        """
        spec, num_rows, lap = self._spec, hidden.shape[0], request.lap
        tasks = kernel_threads()
        kept, bits = _channels_and_bits(spec, request.actions)
        at_input = request.quant_site == "mlp_input"
        plans = {window: _plan_rows(spec, cache, window, request) for window in set(spec.windows)}
        outside = torch.zeros(spec.num_layers, num_rows, spec.num_heads)
        stream, spread = hidden.numpy(), outside.numpy()
        # Written through numpy: six torch operations here cost a millisecond, a thirtieth of a
        # step (docs/decisions.md).
        middle = torch.empty(num_rows, 2, spec.hidden_size)
        kept_streams = middle.numpy()
        lap("rest")
        for index, (attention, mlp) in enumerate(self._layers):
            rows, needs_bounds = plans[spec.windows[index]]
            blocks, extend = _blocks(cache, index, needs_bounds)
            if extend != rows.extend_bounds:
                rows = rows._replace(extend_bounds=extend)
                plans[spec.windows[index]] = (rows, needs_bounds)
            turned = angles[spec.ropes[index]]
            self._kernels.attention(stream, attention, blocks, rows, turned, spread[index])
            lap("attention")
            self._kernels.mlp(stream, mlp, kept, bits, at_input, tasks)
            for place, layer in enumerate(self._mid_layers):
                if layer == index:
                    kept_streams[:, place] = stream
            lap("mlp")
        if not request.observe:
            return None, None
        return torch.from_numpy(spread.mean(-1).T.copy()), middle

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, C] fp32 after the final norm → [R, V] fp32."""
        weight, out_major = self._head
        logits = torch.empty(hidden.shape[0], self._vocab_size)
        inputs = hidden.contiguous().numpy()
        self._kernels.product(inputs, weight, out_major, logits.numpy(), kernel_threads())
        return logits


def _channels_and_bits(spec: ModelSpec, actions: Sequence[Action]) -> tuple[Any, Any]:
    channels = [ceil_fraction(a.channel_keep_ratio, spec.hidden_size) for a in actions]
    bits = [action.bit_width for action in actions]
    return _int64(channels), _int64(bits)


def _plan_rows(
    spec: ModelSpec, cache: KVCache, window: int | None, request: StepRequest
) -> tuple[StepRows, bool]:
    """What each row may read with a window, and whether page bounds are needed for it."""
    from kernels.decode_layer.attention import StepRows

    lengths = [length + 1 for length in cache.lengths]
    visible = [min(length, window or length) for length in lengths]
    all_pages = cache.capacity + cache.shared_width + 1  # more pages than there are
    budgets = [
        pages_kept(action.keep_fraction, seen, cache.page_size)
        if action.keep_fraction < 1
        else all_pages
        for action, seen in zip(request.actions, visible, strict=True)
    ]
    own = cache.own_lengths
    shared = [length - 1 - mine for length, mine in zip(lengths, own, strict=True)]
    first_seen = [length - seen for length, seen in zip(lengths, visible, strict=True)]
    rows = StepRows(
        sources=_int64(cache.row_sources()),
        shared_tokens=_int64(shared),
        own_tokens=_int64(own),
        first_seen=_int64(first_seen),
        pages_kept=_int64(budgets),
        page_size=cache.page_size,
        num_kv_heads=spec.num_kv_heads,
        scale=_float32(spec.attention_scale),
        extend_bounds=False,
        best_share=BEST_PAGES if request.observe else 0.0,
        tasks=kernel_threads(),
    )
    return rows, request.observe or min(budgets) < all_pages


def _blocks(
    cache: KVCache, layer: int, needs_bounds: bool
) -> tuple[tuple[CacheBlock, CacheBlock], bool]:
    """The layer's own and shared memory (the own twice where nothing is shared)."""
    own, shared, extend = cache.stores(layer, with_bounds=needs_bounds)
    block = _block(own)
    return (block, block if shared is None else _block(shared)), extend


def _block(store: LayerStore) -> CacheBlock:
    from kernels.decode_layer.attention import CacheBlock

    keys, values, low, high = store.arrays(as_lines)
    capacity = store.keys.shape[2]
    return CacheBlock(keys, values, low, high, capacity, capacity // store.page_size)


def _attention_weights(layer: LayerWeights, spec: ModelSpec) -> AttentionWeights:
    from kernels.decode_layer.attention import AttentionWeights

    query_key_value, out_major = _matrix(layer.query_key_value)
    output, _ = _matrix(layer.attention_output)
    return AttentionWeights(
        as_array(layer.attention_norm),
        query_key_value,
        _vector(layer.query_key_value.bias),
        _vector(layer.query_norm),
        _vector(layer.key_norm),
        output,
        _vector(layer.attention_output.bias),
        _vector(layer.attention_output_norm),
        out_major,
        _float32(spec.norm_eps),
    )


def _mlp_weights(layer: LayerWeights, spec: ModelSpec) -> MlpWeights:
    from kernels.decode_layer.mlp import MlpWeights

    down, out_major = _matrix(layer.down)
    # A pruned channel must be one row. 16-bit weights lie the other way, for the products of
    # many rows, so their gate and up are copied once a few rows are first decoded.
    gate_up = layer.gate_up.weight.contiguous()
    return MlpWeights(
        as_array(layer.mlp_norm),
        as_array(gate_up),
        down,
        out_major,
        _vector(layer.mlp_output_norm),
        spec.activation == "gelu_tanh",
        _float32(spec.norm_eps),
    )


def _matrix(linear: Linear) -> tuple[Any, bool]:
    """The weights as they lie in memory, and whether that is [out, in]."""
    out_major = bool(lies_out_major(linear.weight))
    return as_array(linear.weight.t() if out_major else linear.weight), out_major


def _vector(values: Tensor | None) -> Any:
    return (torch.empty(0) if values is None else values.float().contiguous()).numpy()


def _int64(values: list[int]) -> Any:
    return torch.tensor(values, dtype=torch.int64).numpy()


def _float32(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float32).numpy()[()]
