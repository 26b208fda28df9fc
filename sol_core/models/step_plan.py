"""Turns the rows' actions into the counts and masks that a decode step works with.

Planned once per step and shared by all layers; an axis on which every row is dense
is None, so that the dense step runs exactly the plain model's operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.integer_linear import MAX_INTEGER_BITS
from kernels.page_attention import AttentionPlan
from sol_core.actions import MAX_BITS, Action, QuantSite, ceil_fraction
from sol_core.cache import KVCache
from sol_core.models.spec import ModelSpec

__all__ = ["StepPlan", "pages_kept", "plan_step", "takes_integers"]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What each row's action means for this step.

    Attributes:
        positions: [R] int64, position of the new token.
        attention: plan per attention window that occurs in the model.
        channels_kept: [R] int64, or None when every row keeps all.
        bit_widths: [R] int64, or None when no row is quantised.
        quant_site: where activations are quantised.
        observe: the step also returns its signals.
        integer_rows: indices [n] int64 of the rows whose MLP is computed in whole numbers,
            and of the others; None when all are computed in floats.
    """

    positions: Tensor
    attention: dict[int | None, AttentionPlan]
    channels_kept: Tensor | None
    bit_widths: Tensor | None
    quant_site: QuantSite
    observe: bool
    integer_rows: tuple[Tensor, Tensor] | None = None


def takes_integers(action: Action, quant_site: QuantSite) -> bool:
    """Whether the MLP of an action can be computed with int8 weights, if there are any."""
    return quant_site == "mlp_input" and action.bit_width <= MAX_INTEGER_BITS


def pages_kept(keep_fraction: float, visible_tokens: int, page_size: int) -> int:
    """Quest's page budget: pages that hold ``ceil(κ·L)`` tokens."""
    return -(-ceil_fraction(keep_fraction, visible_tokens) // page_size)


def plan_step(
    spec: ModelSpec,
    cache: KVCache,
    actions: Sequence[Action],
    quant_site: QuantSite = "mlp_output",
    *,
    observe: bool = False,
    integers: bool = False,
) -> StepPlan:
    """Plan one step over the cache's rows, the new token counted as cached.

    Args:
        integers: there are int8 weights for the rows that take them.
    """
    device = cache.device
    cache.token_slots()  # here, so that the layers copy nothing from the host
    channels = [ceil_fraction(a.channel_keep_ratio, spec.hidden_size) for a in actions]
    pruned = any(count < spec.hidden_size for count in channels)
    quantised = any(action.bit_width < MAX_BITS for action in actions)
    return StepPlan(
        positions=torch.tensor(cache.lengths, device=device),
        attention={
            window: _plan_attention(cache, actions, window, observe) for window in set(spec.windows)
        },
        channels_kept=torch.tensor(channels, device=device) if pruned else None,
        bit_widths=(
            torch.tensor([a.bit_width for a in actions], device=device) if quantised else None
        ),
        quant_site=quant_site,
        observe=observe,
        integer_rows=_split_rows(actions, quant_site, device) if integers else None,
    )


def _split_rows(
    actions: Sequence[Action], quant_site: QuantSite, device: torch.device
) -> tuple[Tensor, Tensor]:
    mine = [takes_integers(action, quant_site) for action in actions]
    rows = range(len(actions))
    return (
        torch.tensor([row for row in rows if mine[row]], dtype=torch.int64, device=device),
        torch.tensor([row for row in rows if not mine[row]], dtype=torch.int64, device=device),
    )


def _plan_attention(
    cache: KVCache, actions: Sequence[Action], window: int | None, observe: bool
) -> AttentionPlan:
    lengths = [length + 1 for length in cache.lengths]
    visible = [min(length, window or length) for length in lengths]
    ragged = len(set(cache.own_lengths)) > 1 or len(set(cache.shared_lengths)) > 1
    sparse = any(action.keep_fraction < 1 for action in actions)
    masked = ragged or visible != lengths
    if not (masked or sparse or observe):
        return AttentionPlan(cache.page_size)
    valid = _visible_tokens(cache, lengths, visible)
    if not (sparse or observe):
        return AttentionPlan(cache.page_size, valid)
    padding = -valid.shape[1] % cache.page_size
    paged = torch.nn.functional.pad(valid, (0, padding)).unflatten(1, (-1, cache.page_size))
    tokens = paged.sum(-1)
    budgets = [
        pages_kept(action.keep_fraction, seen, cache.page_size)
        if action.keep_fraction < 1
        else cache.capacity + cache.shared_width  # more pages than there are: all
        for action, seen in zip(actions, visible, strict=True)
    ]
    return AttentionPlan(
        cache.page_size,
        valid if masked else None,
        tokens > 0,
        torch.tensor(budgets, device=cache.device) if sparse else None,
        tokens if observe else None,
    )


def _visible_tokens(cache: KVCache, lengths: list[int], visible: list[int]) -> Tensor:
    """[R, S] bool over the shared block's tokens, then the rows' own."""
    device = cache.device
    own = torch.tensor([n + 1 for n in cache.own_lengths], device=device)[:, None]
    total = torch.tensor(lengths, device=device)[:, None]
    first_seen = total - torch.tensor(visible, device=device)[:, None]
    own_slots = torch.arange(max(cache.own_lengths) + 1, device=device)[None]
    own_seen = (own_slots < own) & (own_slots + (total - own) >= first_seen)
    if not cache.shared_lengths:
        return own_seen
    shared = total - own
    shared_slots = torch.arange(cache.shared_width, device=device)[None]
    shared_seen = (shared_slots < shared) & (shared_slots >= first_seen)
    return torch.cat((shared_seen, own_seen), dim=1)
