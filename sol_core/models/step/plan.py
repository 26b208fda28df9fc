"""Turns the rows' actions into the numbers and masks of a decode step.

Steps of one ``StepShape`` are the same operations on the same buffers, so one CUDA graph; they
differ only in ``step_numbers``. An axis on which every row is dense is None.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.gated_mlp import MlpPlan
from kernels.page_attention import AttentionPlan
from sol_core.actions import MAX_BITS, Action, Mechanisms, ceil_fraction
from sol_core.errors import ShapeError
from sol_core.model_tables.tables import PageThresholds
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe
from sol_core.models.spec import ModelSpec
from sol_core.models.step.clock import StepClock
from sol_core.models.step.preview import PreviewedHead

# Own tokens are rounded up to a multiple of this if a step must not depend on their number; at most
# four programs of the attention kernel are idle.
BUCKET_TOKENS = 256


@dataclass(slots=True)
class StepRequest:
    """A step's request besides its tokens; see ``FrozenLM.decode_step``."""

    actions: Sequence[Action]
    mechanisms: Mechanisms
    observe: Observe
    clock: StepClock | None
    thresholds: PageThresholds | None
    left_out: Sequence[Iterable[int]] | None
    record: Collection[str]
    batched: bool
    preview: PreviewedHead | None = None
    is_dense: bool = field(init=False, default=True)  # every row keeps everything
    is_layered: bool = field(init=False)  # records or leaves out pages by layer, so no graph
    is_by_layer: bool = field(init=False, default=False)  # some row has values by layer
    is_sparse: bool = field(init=False, default=False)  # some row drops pages
    reads_codes: bool = field(init=False)  # pages are scored by 4-bit keys
    kernels_choose: bool = field(init=False)  # the CPU's kernels support this choice of pages

    def __post_init__(self) -> None:
        self.is_layered = self.left_out is not None or not {"pages"}.issuperset(self.record)
        for action in self.actions:
            self.is_dense &= action.is_dense
            self.is_by_layer |= bool(action.keep_by_layer or action.channels_by_layer)
            self.is_sparse |= action.keep_fraction < 1
        scores_pages = self.is_sparse or self.observe is Observe.CONCENTRATION
        scorer = self.mechanisms.scorer
        self.reads_codes = scores_pages and scorer.reads_codes
        self.kernels_choose = self.mechanisms.page_choice == scorer.compiled_choice

    def rows(self, first: int, count: int) -> StepRequest:
        """Select some rows of the request."""
        part = slice(first, first + count)
        left_out = None if self.left_out is None else self.left_out[part]
        return replace(self, actions=self.actions[part], left_out=left_out)


@dataclass(frozen=True, slots=True)
class StepShape:
    """Sizes that determine a step's operations and tensors; hashable."""

    num_rows: int
    page_size: int
    own_width: int  # tokens of the rows' own memory in use
    shared_width: int  # tokens of the shared prefix
    masked: tuple[bool, ...]  # per window (sorted, None last): some row sees fewer tokens
    sparse: bool  # sparse, pruned, quantised: whether some row drops pages, channels, bits
    pruned: bool
    quantised: bool
    by_layer: bool  # whether each layer has its own numbers
    observe: Observe  # extra outputs
    records_pages: bool  # whether to return which pages were read
    mechanisms: Mechanisms
    extend: bool  # whether to encode the new key in 4 bits

    @property
    def kind(self) -> StepShape:
        """Return the shape without the rows' lengths."""
        return replace(self, own_width=0, masked=())


@dataclass(frozen=True, slots=True)
class StepPlan:
    shape: StepShape
    positions: Tensor  # [R] int64, position of the new token
    slots: Tensor  # [R] int64, its slot in the row's own memory
    attention: Sequence[AttentionPlan]  # per layer
    tokens_seen: Sequence[Tensor]  # per layer [R, 1] int64, summed over KV heads
    mlp: Sequence[MlpPlan]  # per layer


def pages_kept(keep_fraction: float, visible_tokens: int, page_size: int) -> int:
    """Return Quest's page budget: the pages that hold ``ceil(κ·L)`` tokens."""
    return -(-ceil_fraction(keep_fraction, visible_tokens) // page_size)


def page_limits(
    cache: KVCache,
    request: StepRequest,
    windows: Sequence[int | None],  # the model's; one per layer for a request by layer
) -> tuple[list[list[int]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the pages that each row keeps, R numbers per window, and the least need at which it
    reads a page, [1, R] or [L, R] by layer. The new token counts as cached."""
    kept_pages = [[max(cache.lengths) + 1] * cache.num_rows for _ in windows]
    floors = np.zeros((len(windows) if request.is_by_layer else 1, cache.num_rows), np.float32)
    for row, (action, cached) in enumerate(zip(request.actions, cache.lengths, strict=True)):
        if action.keep_fraction >= 1:
            continue
        length = cached + 1
        kept = action.keep_by_layer or (action.keep_fraction,)
        if request.thresholds is not None:
            floors[:, row] = request.thresholds.floors(kept, length)
        if not action.keep_by_layer:
            kept *= len(windows)
        for line, window, keep in zip(kept_pages, windows, kept, strict=True):
            if keep >= 1:
                continue
            seen = min(length, window or length)
            by_count = request.thresholds is None
            line[row] = pages_kept(keep, seen, cache.page_size) if by_count else 1
    return kept_pages, floors


def channel_limits(
    spec: ModelSpec, request: StepRequest
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the input and inner channels that each row keeps: R numbers, once or per layer."""
    how, sizes = request.mechanisms, (spec.hidden_size, spec.intermediate_size)
    count = spec.num_layers if request.is_by_layer else 1
    rows = [
        channels_kept(action.channels_by_layer or (action.channel_keep_ratio,) * count, sizes, how)
        for action in request.actions
    ]
    entering, inner = np.array(rows).transpose(2, 1, 0).tolist()  # from [R, L, 2]
    return entering, inner


def step_shape(
    spec: ModelSpec, cache: KVCache, request: StepRequest, *, in_buckets: bool
) -> StepShape:
    """Prepare a cache for a step and return the step's shape; with buckets, it rarely changes from
    token to token."""
    how, actions = request.mechanisms, request.actions
    width = max(cache.own_lengths) + 1
    if in_buckets:
        # Bucket and capacity in whole pages, so that the mask needs no padding.
        bucket = -(-BUCKET_TOKENS // cache.page_size) * cache.page_size
        width = min(-(-width // bucket) * bucket, cache.capacity)
    ragged = len(set(cache.own_lengths)) > 1 or len(set(cache.shared_lengths)) > 1
    uneven = in_buckets or ragged or request.left_out is not None
    longest = max(cache.lengths) + 1
    every_channel = spec.hidden_size, spec.intermediate_size
    return StepShape(
        num_rows=cache.num_rows,
        page_size=cache.page_size,
        own_width=width,
        shared_width=cache.shared_width,
        masked=tuple(
            uneven or (window is not None and window < longest) for window in _windows(spec)
        ),
        sparse=request.is_sparse,
        pruned=any(
            set(channels_kept(ratios, every_channel, how)) != {every_channel}
            for action in actions
            for ratios in [action.channels_by_layer or (action.channel_keep_ratio,)]
        ),
        quantised=any(action.bit_width < MAX_BITS for action in actions),
        by_layer=request.is_by_layer,
        observe=request.observe,
        records_pages="pages" in request.record,
        mechanisms=how,
        extend=cache.prepare_token_write(reads_codes=request.reads_codes),
    )


def step_numbers(spec: ModelSpec, cache: KVCache, request: StepRequest) -> list[list[int]]:
    """Return N lines of R numbers, the only difference between steps of one shape."""
    entering, inner = channel_limits(spec, request)
    windows = spec.windows if request.is_by_layer else _windows(spec)
    kept_pages, floors = page_limits(cache, request, windows)
    bits = [action.bit_width for action in request.actions]
    lines = [cache.own_lengths, cache.lengths, bits, *entering, *inner, *kept_pages]
    if request.thresholds is not None:
        lines += floors.view(np.int32).tolist()
    # Keeps lines aligned to 16 bytes, so Triton compiles no other variant of the kernels.
    return [line + [0] * (-len(line) % 4) for line in lines]


def pages_left_out(
    cache: KVCache, left_out: Sequence[Iterable[int]]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Mark pages left out, [R, P], oldest first. Raises: ShapeError for a missing page."""
    size, lengths = cache.page_size, cache.lengths
    pages_out = np.zeros((len(lengths), max(lengths) // size + 1), np.uint8)
    for row, (pages, length) in enumerate(zip(left_out, lengths, strict=True)):
        for page in pages:
            if not 0 <= page < length // size:
                raise ShapeError(
                    f"a step after {length} tokens can leave out pages 0 to {length // size - 1}, "
                    f"got {page}"
                )
            pages_out[row, page] = 1
    return pages_out


def tokens_left_out(cache: KVCache, width: int, left_out: Sequence[Iterable[int]]) -> Tensor:
    """Return ``pages_left_out`` as tokens of the rows' blocks, [R, S] bool."""
    pages = torch.from_numpy(pages_left_out(cache, left_out)).bool()
    tokens = pages.repeat_interleave(cache.page_size, 1)
    missing = torch.zeros(cache.num_rows, cache.shared_width + width, dtype=torch.bool)
    pairs = zip(cache.shared_lengths, cache.own_lengths, strict=True)
    for row, (shared, own) in enumerate(pairs):
        missing[row, :shared] = tokens[row, :shared]
        missing[row, cache.shared_width :][:own] = tokens[row, shared : shared + own]
    return missing.to(cache.device)


def plan_step(
    spec: ModelSpec,
    shape: StepShape,
    numbers: Tensor,
    left_out: Tensor | None = None,  # [R, S] bool, hidden tokens
) -> StepPlan:
    """Plan a step on the numbers' device, without synchronising with the host."""
    windows, num_layers = _windows(spec), spec.num_layers
    slots, positions, bits, *lines = numbers[:, : shape.num_rows].unbind()
    count = num_layers if shape.by_layer else 1
    channels, inner, budgets = lines[:count], lines[count : 2 * count], lines[2 * count :]
    plans = {
        window: _plan_attention(shape, masked, slots, positions, window, left_out)
        for window, masked in zip(windows, shape.masked, strict=True)
    }
    seen = {
        window: spec.num_kv_heads * _tokens_seen(plan, positions, window, left_out)
        for window, plan in plans.items()
    }
    attention = [plans[window] for window in spec.windows]
    if shape.sparse:
        floors: Sequence[Tensor | None] = [None] * count
        if shape.mechanisms.chooses_by_group:
            floors = numbers[-count:].int().view(torch.float32)[:, : shape.num_rows].unbind()
        attention = [
            replace(
                plans[window],
                pages_kept=budgets[layer if shape.by_layer else windows.index(window)],
                floors=floors[layer % count],
            )
            for layer, window in enumerate(spec.windows)
        ]
    mlp = [
        MlpPlan(
            entering if shape.pruned else None,
            bits if shape.quantised else None,
            shape.mechanisms.quant_site == "mlp_input",
            kept if shape.pruned and shape.mechanisms.pruner.keep_inner else None,
            shape.mechanisms.quant_block,
        )
        for entering, kept in zip(channels, inner, strict=True)
    ]
    return StepPlan(
        shape=shape,
        positions=positions,
        slots=slots,
        attention=attention,
        tokens_seen=[seen[window] for window in spec.windows],
        mlp=mlp if shape.by_layer else mlp * num_layers,
    )


def _windows(spec: ModelSpec) -> list[int | None]:
    """Return the distinct attention windows of a model, narrowest first."""
    return sorted(set(spec.windows), key=lambda window: (window is None, window))


@lru_cache(maxsize=256)  # 0.15 ms for 30 layers, and schedules repeat few values
def channels_kept(
    ratios: tuple[float, ...],
    sizes: tuple[int, int],  # input and inner channels of a layer
    mechanisms: Mechanisms,
) -> list[tuple[int, int]]:
    """Return the input and inner channels that layers keep at an action's ratios."""
    pairs = [mechanisms.mlp_fractions(ratio) for ratio in ratios]
    return [(ceil_fraction(a, sizes[0]), ceil_fraction(b, sizes[1])) for a, b in pairs]


def _plan_attention(
    shape: StepShape,
    masked: bool,
    slots: Tensor,
    positions: Tensor,
    window: int | None,
    left_out: Tensor | None,
) -> AttentionPlan:
    """Plan a window's layers, without the pages that they keep."""
    spans, scored = None, shape.sparse or shape.observe is Observe.CONCENTRATION
    if slots.device.type == "cpu" and left_out is None:
        first_seen = (positions + 1 - (window or shape.own_width + shape.shared_width)).clamp(min=0)
        spans = torch.stack((positions - slots, slots, first_seen))
    how = shape.mechanisms.scorer, shape.mechanisms.page_choice
    if not (masked or scored):
        return AttentionPlan(shape.page_size, scorer=how[0], choice=how[1], spans=spans)
    valid = _visible_tokens(shape, slots, positions, window)
    if left_out is not None:
        valid = valid & ~left_out
    if not scored:
        return AttentionPlan(shape.page_size, valid, scorer=how[0], choice=how[1], spans=spans)
    padding = -valid.shape[1] % shape.page_size
    paged = torch.nn.functional.pad(valid, (0, padding)).unflatten(1, (-1, shape.page_size))
    tokens = paged.sum(-1)
    return AttentionPlan(
        shape.page_size, valid if masked else None, tokens > 0, None, tokens, *how, spans=spans
    )


def _tokens_seen(
    plan: AttentionPlan, positions: Tensor, window: int | None, left_out: Tensor | None
) -> Tensor:
    if left_out is not None and plan.valid_tokens is not None:
        return plan.valid_tokens.sum(-1, keepdim=True)
    seen = positions[:, None] + 1
    return seen if window is None else seen.clamp(max=window)


def _visible_tokens(
    shape: StepShape, slots: Tensor, positions: Tensor, window: int | None
) -> Tensor:
    """Return [R, S] bool over the shared block's tokens, then the rows' own."""
    own, shared = slots[:, None], (positions - slots)[:, None]
    own_tokens = torch.arange(shape.own_width, device=slots.device)[None]
    own_seen = own_tokens <= own
    first_seen = None if window is None else positions[:, None] + 1 - window
    if first_seen is not None:
        own_seen &= own_tokens + shared >= first_seen
    if not shape.shared_width:
        return own_seen
    shared_tokens = torch.arange(shape.shared_width, device=slots.device)[None]
    shared_seen = shared_tokens < shared
    if first_seen is not None:
        shared_seen &= shared_tokens >= first_seen
    return torch.cat((shared_seen, own_seen), dim=1)
