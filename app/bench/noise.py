"""The noise floor: how far two computations of one step part that differ in the last bit.

Rounding activations to few bits is a step function: numbers that differ by 1e-7 may round to
neighbouring levels, which the later layers amplify. The second computation scales the residual
stream that enters the model by 1 + 2⁻²³; nothing else differs. A third one is ``batched``, as
training and tasks decode: torch's products sum in an order of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions, teacher_forced
from sol_core.decoding.prefix import read_prefix
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import made_on
from sol_core.progress import Progress

KEEP, CHANNELS = 0.3, 0.7  # of all rows but the whole ones
BITS = (4, 5, 6, 7, 8, 10, 12, 16)
CONTEXT, STEPS = 256, 128


def bench_noise(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    grid: ActionGrid,
    on_progress: Progress,
    *,
    harmless_kl: float,
) -> dict[str, Any]:
    """Spread of a token's NLL and KL by bits, over texts of ``CONTEXT + STEPS + 1`` tokens; and how
    far tokens of at most ``harmless_kl`` in one computation go in the other."""
    lm = model.lm
    nudged = in_other_last_bits(lm, 1)
    bits = [width for width in BITS if width >= grid.bit_widths[0]]
    actions = [DENSE, *(Action(KEEP, CHANNELS, width) for width in bits)]
    losses = []
    for number, text in enumerate(texts):
        on_progress("decoding everything three times", number / len(texts))
        computations = (lm, False), (nudged, False), (lm, True)
        losses.append(torch.stack([_losses(*of, text, actions, grid) for of in computations]))
    once, nudged_once, batched = torch.cat(losses, -1)  # [NLL and KL, rows, tokens] each
    made: dict[str, Any] = {"model": model.name, "tokens": once.shape[-1]}
    for name, other in (("bits", nudged_once), ("batched", batched)):
        rows = zip(("none", *bits), once.unbind(1), other.unbind(1), strict=True)
        made[name] = {str(width): _spread(a, b, harmless_kl) for width, a, b in rows}
    return made_on(model) | made


def in_other_last_bits(lm: FrozenLM, bits: int) -> FrozenLM:
    """The same decoder, whose residual stream enters some last bits of fp32 greater."""
    nudged = FrozenLM(replace(lm.spec, stream_scale=1 + bits * 2.0**-23), lm.weights)
    nudged.page_thresholds, nudged.head_directions = lm.page_thresholds, lm.head_directions
    return nudged


def _losses(
    lm: FrozenLM, batched: bool, text: Sequence[int], actions: Sequence[Action], grid: ActionGrid
) -> Tensor:
    """NLL and KL of every row and token: [2, rows, tokens] nats."""
    prefix = read_prefix(lm, text[:CONTEXT], grid.page_size).cache
    rows = PlannedRows([[action] for action in actions])
    options = DecodeOptions(STEPS, grid.mechanisms, batched=batched)
    cache = prefix.branch(len(actions), STEPS)
    steps = teacher_forced(lm, cache, [text[CONTEXT:]], rows, options)
    return torch.stack([torch.stack((step.nll[0], step.kl[0])) for step in steps], -1)


def _spread(once: Tensor, again: Tensor, harmless_kl: float) -> dict[str, float]:
    """Quantiles over the tokens of two computations' NLL and KL [2, tokens], nats."""
    change = (again - once).abs()
    spread = {
        f"{name}_{share}": float(values.quantile(share / 100))
        for name, values in zip(("nll", "kl"), change, strict=True)
        for share in (50, 95)
    }
    harmless = again[1][once[1] <= harmless_kl]
    return spread | {"harmless_kl_95": float(harmless.quantile(0.95)) if len(harmless) else 0.0}
