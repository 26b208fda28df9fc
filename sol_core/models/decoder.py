"""The frozen language model: a dense ``prefill`` and one compressed ``decode_step``.

The residual stream, norms, rotations and softmax are fp32; products run in the weights' dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.causal_attention import causal_attention
from kernels.cpu.threads import MANY_ROWS, Tuning
from kernels.gated_mlp import activated
from kernels.gpu.triton_support import runs_triton
from kernels.kv_write import NewTokens, rotate_and_write, rotated
from kernels.linear import step_threads
from kernels.page_attention import Attended, KVBlock, attend
from kernels.residual import Residual, add_and_norm
from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.card_errors import retry_out_of_memory
from sol_core.errors import ConfigError, ContextLengthError, ShapeError
from sol_core.model_tables.tables import PageThresholds, shipped_floors
from sol_core.models.cache import KVCache, StorePool
from sol_core.models.devices import use_device
from sol_core.models.rope import inverse_frequencies, rotary_angles
from sol_core.models.signals import BEST_PAGES, Observe, PrefillObserver, PrefillOutput
from sol_core.models.spec import ModelSpec, RopeSpec, WeightBytes
from sol_core.models.step.clock import Lap, StepClock
from sol_core.models.step.few_rows import ROWS_AT_ONCE, FewRowStep
from sol_core.models.step.graph import StepGraphs, run_without_graph
from sol_core.models.step.layer import final_logits, heads_of, normed_update, step_mlp
from sol_core.models.step.output import LayerOutputs, StepOutput
from sol_core.models.step.plan import (
    StepPlan,
    StepRequest,
    plan_step,
    step_numbers,
    step_shape,
    tokens_left_out,
)
from sol_core.models.step.preview import PreviewedHead
from sol_core.models.step.times import StepTimes
from sol_core.models.weights import LayerWeights, ModelWeights, packed_for_many_rows

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def _on_its_card(method: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """Run on the model's device; on out-of-memory, free kept memory and run again, except with
    ``watch``, which would see layers twice."""

    @wraps(method)
    def on_its_card(*given: P.args, **how: P.kwargs) -> ResultT:
        model: Any = given[0]
        if model.device.type == "cpu" and model.graphs is None:  # a tape has graphs on a CPU
            return method(*given, **how)
        use_device(model.device)
        if how.get("watch") is not None:
            return method(*given, **how)
        return retry_out_of_memory(method, *given, **how)

    return on_its_card


class FrozenLM:
    """A decoder-only language model whose weights never change."""

    def __init__(self, spec: ModelSpec, weights: ModelWeights) -> None:
        self.spec = spec  # its architecture
        self.weights = weights  # laid out for decoding
        self.batch_weights = weights
        self.dtype, self.device = weights.embedding.dtype, weights.embedding.device
        self.tuning: Tuning | None = None  # for a CPU's few-row kernels; changes no result
        self.step_times: StepTimes | None = None  # measured with the tuning
        self.page_thresholds: PageThresholds | None = None
        self.head_directions: Tensor | None = None
        self._preview: PreviewedHead | None = None
        # Rounded as in transformers and in published numbers.
        self._embedding_scale = torch.tensor(spec.embedding_scale, dtype=self.dtype).item()
        self._frequencies = {
            rope: inverse_frequencies(rope, spec.head_size, self.device) for rope in set(spec.ropes)
        }

    @property
    def steps_are_quantised(self) -> bool | None:
        """Return whether steps of few rows read a GGUF file's blocks; None without the kernel."""
        return None if self._few_rows is None else self._few_rows.quantised

    @property
    def weight_bytes(self) -> WeightBytes:
        """Return the bytes of weights that a step of one row reads."""
        if self._few_rows is not None:
            head = self._previewed_head
            preview = None if head is None else head.bytes_read
            return replace(self._few_rows.weight_bytes, preview=preview)
        return WeightBytes.unpacked(self.spec, self.dtype.itemsize)

    def prepare_for_batches(self) -> None:
        """Pack a second copy of the weights for many rows on a bf16 CPU; doubles their memory."""
        if self.batch_weights is self.weights:
            self.batch_weights = packed_for_many_rows(self.weights, MANY_ROWS)

    def new_cache(self, num_rows: int, capacity: int, *, page_size: int = 8) -> KVCache:
        return KVCache(
            self.spec,
            num_rows,
            capacity,
            page_size=page_size,
            dtype=self.dtype,
            device=self.device,
            pool=self._pool,
        )

    @torch.no_grad()
    @_on_its_card
    def prefill(
        self,
        tokens: Tensor,  # [R, T] int64
        cache: KVCache,  # rows of equal length, without a shared prefix; grows by ``lengths``
        lengths: Sequence[int] | None = None,  # default T for every row
        *,
        watch: Callable[[int, Tensor, KVBlock], None] | None = None,  # layer, queries, keys
        on_stream: Callable[[int, Tensor], None] | None = None,  # stream after a layer
        batched: bool = False,  # use the weights that ``prepare_for_batches`` packed
    ) -> Tensor:
        """Run T more tokens of every row densely; return [R, T, C] fp32 after the final norm."""
        rows, count = tokens.shape
        counts = [count] * rows if lengths is None else list(lengths)
        start, spec = cache.own_lengths[0], self.spec
        if rows != cache.num_rows or len(counts) != rows or max(counts) > count:
            raise ShapeError(
                f"prefill of {cache.num_rows} rows needs tokens [{cache.num_rows}, T] and as many "
                f"lengths of at most T, got {tuple(tokens.shape)} and {counts}"
            )
        self._check_context(start + count)
        angles = self._angles(torch.arange(start, start + count, device=self.device))
        hidden, update, scale = self._embed(tokens), None, spec.attention_scale
        weights = self.batch_weights if batched else self.weights
        for index, layer in enumerate(weights.layers):
            residual = self._residual(hidden, update, layer.attention_norm)
            hidden, normed = add_and_norm(residual, self.dtype)
            if on_stream is not None:
                on_stream(index - 1, hidden)
            heads, turned = heads_of(spec, layer, normed), angles[spec.ropes[index]]
            query, key, value = rotated(heads, spec.num_kv_heads, *turned)
            cache.write(index, key.transpose(1, 2), value.transpose(1, 2))
            (block,) = cache.blocks(index, count)
            query, window, cap = query.transpose(1, 2), spec.windows[index], spec.attention_cap
            mixed = causal_attention(query, block, scale=scale, window=window, cap=cap)
            if watch is not None:
                watch(index, query * scale, block)
            update = layer.attention_output(mixed.transpose(1, 2).flatten(2))
            update = normed_update(update, layer.attention_output_norm, spec)
            residual = self._residual(hidden, update, layer.mlp_norm)
            hidden, normed = add_and_norm(residual, self.dtype)
            update = layer.down(activated(layer.gate_up(normed), spec.activation))
            update = normed_update(update, layer.mlp_output_norm, spec)
        cache.advance(counts)
        stream, hidden = add_and_norm(self._residual(hidden, update, self.weights.final_norm))
        if on_stream is not None:
            on_stream(spec.num_layers - 1, stream)
        return hidden

    @_on_its_card
    def observed_prefill(
        self,
        tokens: Tensor,
        cache: KVCache,
        lengths: Sequence[int] | None = None,
        *,
        mechanisms: Mechanisms = PAPER,  # of the decode steps that follow
        observed: Tensor | None = None,  # [N] int64, ascending, among the T tokens; None is all
        batched: bool = False,  # as in ``prefill``
    ) -> PrefillOutput:
        """Run ``prefill`` and return what a policy observes of it."""
        seen = PrefillObserver(self.spec, cache, tokens.shape[1], mechanisms.scorer, observed)
        hidden = self.prefill(
            tokens, cache, lengths, watch=seen.watch, on_stream=seen.on_stream, batched=batched
        )
        return seen.output(hidden)

    @torch.no_grad()
    @_on_its_card
    def decode_step(
        self,
        tokens: Tensor,  # [R] int64
        cache: KVCache,  # R rows
        action: Action | Sequence[Action] = DENSE,  # one for all rows, or one per row
        *,
        mechanisms: Mechanisms = PAPER,  # how the step skips what its actions drop
        observe: Observe = Observe.NOTHING,  # what else to return
        left_out: Sequence[Iterable[int]] | None = None,  # per row, pages it may not read
        record: Collection[str] = (),  # of "pages", "hidden", "attention"
        clock: StepClock | None = None,  # records a lap after attention, MLP and head
        batched: bool = False,  # faster with many rows, and not batch-invariant
    ) -> StepOutput:
        """Feed one token to every row, each compressed by its own action.

        On a CPU, a row's numbers are batch-invariant: bit-identical whatever the other rows,
        observations and records. With ``batched``, torch computes products of more than
        ``FEW_ROWS`` rows, and its sums depend on their number; on a GPU they always do.
        """
        actions = [action] * cache.num_rows if isinstance(action, Action) else list(action)
        if tokens.shape != (cache.num_rows,) or len(actions) != cache.num_rows:
            raise ShapeError(
                f"decode_step of {cache.num_rows} rows needs tokens [{cache.num_rows}] and as "
                f"many actions, got {tuple(tokens.shape)} and {len(actions)}"
            )
        self._check_context(max(cache.lengths) + 1)
        if mechanisms.chooses_by_group and mechanisms.page_budget == "count":
            raise ConfigError(
                "this was made with a fixed count of pages per KV group, which this release shows "
                f"but no longer decodes: choose the grid {' or '.join(GRIDS)}, and train a policy "
                "of that one again"
            )
        floors = (self.page_thresholds or shipped_floors()) if mechanisms.chooses_by_group else None
        asked = actions, mechanisms, observe, clock, floors, left_out, record, batched
        request = StepRequest(*asked)
        if request.is_by_layer:
            for taken in actions:
                taken.check_layers(self.spec.num_layers)
        if mechanisms.head == "preview" and not request.is_dense:
            request.preview = self._previewed_head
        output = self._step(tokens, cache, request)
        cache.advance(1)
        return output

    def _step(self, tokens: Tensor, cache: KVCache, request: StepRequest) -> StepOutput:
        """Run one step, some rows at a time; the cache is written but not advanced."""
        few = self._few_rows
        compiled = few if few is not None and few.supports(cache, request) else None
        most = 1 if compiled is None else ROWS_AT_ONCE
        if cache.num_rows <= most or request.batched or self._in_buckets:
            if compiled is None:
                with step_threads(cache.num_rows, self.weights.head.weight):
                    return self._decode_planned(tokens, cache, request)
            return compiled.run(self._embed(tokens).contiguous(), cache, request, self.tuning)
        current_codes = cache.prepare_token_write(reads_codes=request.reads_codes)
        parts = []
        for first in range(0, cache.num_rows, most):
            some = tokens[first : first + most]
            view = cache.view(first, len(some), current_codes=current_codes)
            parts.append(self._step(some, view, request.rows(first, len(some))))
        return StepOutput.joined(parts)

    @torch.no_grad()
    def logits(self, hidden: Tensor, *, batched: bool = False) -> Tensor:
        """Return logits [..., V] fp32 from hidden states [..., C] after the final norm."""
        weights = self.batch_weights if batched and hidden.shape[0] >= MANY_ROWS else self.weights
        return final_logits(weights.head(hidden).float(), self.spec)

    @property
    def _previewed_head(self) -> PreviewedHead | None:
        """Return the previewed head, made once directions are measured."""
        if self._preview is None and self.steps_are_quantised:
            head, directions = self.weights.head.blocks, self.head_directions
            self._preview = PreviewedHead.make(self.spec, head, directions, self.dtype)
        return self._preview

    @cached_property
    def graphs(self) -> StepGraphs | None:
        """Return the CUDA graphs of decode steps; None on a CPU, and while graphs are off."""
        return StepGraphs.make(self.device)

    @cached_property
    def _pool(self) -> StorePool | None:
        return None if self.graphs is None else StorePool()

    @cached_property
    def host_embedding(self) -> Tensor:
        """Return the embedding [V, C] in host memory, for a generation's policies."""
        return self.weights.embedding.cpu()

    @property
    def _in_buckets(self) -> bool:
        """Return whether steps round lengths up to buckets, as on a GPU."""
        on_gpu = self.device.type == "cuda" or runs_triton(self.weights.embedding)
        return on_gpu or self.graphs is not None

    def _decode_planned(self, tokens: Tensor, cache: KVCache, request: StepRequest) -> StepOutput:
        """Plan the step on the device and run ``_decode``, in a CUDA graph if available."""
        spec = self.spec
        shape = step_shape(spec, cache, request, in_buckets=self._in_buckets)
        numbers = step_numbers(spec, cache, request)
        missing = None
        if request.left_out is not None:
            missing = tokens_left_out(cache, shape.own_width, request.left_out)

        def step(tokens: Tensor, numbers: Tensor, lap: Lap) -> StepOutput:
            plan = plan_step(spec, shape, numbers, missing)
            return self._decode(tokens, cache, plan, lap, request.record)

        if self.graphs is None or request.is_layered:
            output = run_without_graph(step, tokens, numbers, request.clock)
        else:
            layout = cache.layout()
            key, kind = (shape, layout), (shape.kind, layout)
            output = self.graphs.run(key, kind, step, tokens, numbers, request.clock, cache)
        if request.preview is not None:
            output = replace(output, logits=request.preview.logits(output, request.actions))
        return output.with_pages_in_order(cache.pages_in_order)

    def _decode(
        self, tokens: Tensor, cache: KVCache, plan: StepPlan, lap: Lap, record: Collection[str]
    ) -> StepOutput:
        """Run one step; the cache is written but not advanced."""
        batched = cache.num_rows >= MANY_ROWS
        weights = self.batch_weights if batched else self.weights
        angles, spec, pruner = self._angles(plan.positions), self.spec, plan.shape.mechanisms.pruner
        hidden, update = self._embed(tokens), None
        # A GPU's kernels round inputs of weight products once; a CPU's use fp32.
        dtype = self.dtype if self._in_buckets else torch.float32
        kept = LayerOutputs(spec, plan.shape.observe, keeps_streams="hidden" in record)
        lap("rest")
        for index, layer in enumerate(weights.layers):
            residual = self._residual(hidden, update, layer.attention_norm)
            hidden, normed = add_and_norm(residual, dtype)
            kept.add_stream(index - 1, hidden)
            turned = angles[spec.ropes[index]]
            attended = self._attend(index, layer, normed, cache, plan, turned, record)
            update = layer.attention_output(attended.mixed.flatten(1))
            update = normed_update(update, layer.attention_output_norm, spec)
            kept.add(attended, plan.tokens_seen[index])
            lap("attention")
            residual = self._residual(hidden, update, layer.mlp_norm)
            mlp = plan.mlp[index]
            hidden, update = step_mlp(layer, residual, mlp, pruner, spec.activation, dtype)
            update = normed_update(update, layer.mlp_output_norm, spec)
            lap("mlp")
        stream, hidden = add_and_norm(self._residual(hidden, update, self.weights.final_norm))
        kept.add_stream(spec.num_layers - 1, stream)
        lap("rest")
        logits = self.logits(hidden, batched=batched)
        lap("head")
        return kept.output(hidden, logits)

    @cached_property
    def _few_rows(self) -> FewRowStep | None:
        """Return the compiled step of few rows, prepared at its first use."""
        return None if self._in_buckets else FewRowStep.make(self.spec, self.weights)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded = F.embedding(tokens, self.weights.embedding)
        if self.spec.embedding_scale != 1.0:
            embedded = embedded * self._embedding_scale
        stream, scale = embedded.float(), self.spec.stream_scale
        return stream if scale is None else stream * scale

    def _residual(self, hidden: Tensor, update: Tensor | None, norm: Tensor | None) -> Residual:
        return Residual(hidden, update, norm, self.spec.norm_eps)

    def _angles(self, positions: Tensor) -> dict[RopeSpec, tuple[Tensor, Tensor]]:
        return {
            rope: rotary_angles(frequencies, positions, rope.amplitude)
            for rope, frequencies in self._frequencies.items()
        }

    def _attend(
        self,
        index: int,
        layer: LayerWeights,
        normed: Tensor,
        cache: KVCache,
        plan: StepPlan,
        angles: tuple[Tensor, Tensor],
        record: Collection[str],
    ) -> Attended:
        heads, scale = heads_of(self.spec, layer, normed), self.spec.attention_scale
        attention, shape = plan.attention[index], plan.shape
        new, store = NewTokens(heads, *angles, scale), cache.layers[index]
        buffers, taken = (store.keys, store.values), store.codes if shape.extend else None
        query = rotate_and_write(new, buffers, plan.slots, taken)
        codes = attention.valid_pages is not None and shape.mechanisms.scorer.reads_codes
        blocks = cache.blocks(index, 1, codes=codes, width=shape.own_width)
        share = BEST_PAGES if shape.observe is Observe.CONCENTRATION else 0.0
        cap, readers, masses = self.spec.attention_cap, shape.records_pages, "attention" in record
        return attend(
            query, blocks, attention, share, cap, normed.dtype, readers=readers, masses=masses
        )

    def _check_context(self, length: int) -> None:
        if length > self.spec.max_positions:
            raise ContextLengthError(
                f"{length} tokens exceed the model's context of {self.spec.max_positions}; "
                "shorten the prompt or ask for fewer new tokens"
            )
