"""The noise floor: how far two computations of one step part that differ in the last bit.

Rounding activations to few bits is a step function: numbers that differ by 1e-7 may round to
neighbouring levels, which the later layers amplify. The second computation scales the residual
stream that enters the model by 1 + 2⁻²³; nothing else differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import read_prefix
from sol_core.decoding.teacher_forcing import teacher_forced
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from sol_core.progress import Progress

NUDGE = 1 + 2.0**-23  # a last bit of fp32
KEEP, CHANNELS = 0.3, 0.7  # of all rows but the whole ones
BITS = (4, 5, 6, 7, 8, 10, 12, 16)
CONTEXT, STEPS = 256, 128


def bench_noise(
    model: LanguageModel, texts: Sequence[Sequence[int]], grid: ActionGrid, on_progress: Progress
) -> dict[str, Any]:
    """Spread of a token's NLL and KL by bits, over texts of ``CONTEXT + STEPS + 1`` tokens."""
    lm = model.lm
    nudged = FrozenLM(replace(lm.spec, stream_scale=NUDGE), lm.weights)
    nudged.page_thresholds, nudged.head_directions = lm.page_thresholds, lm.head_directions
    bits = [width for width in BITS if width >= grid.bit_widths[0]]
    actions = [DENSE, *(Action(KEEP, CHANNELS, width) for width in bits)]
    changes = []
    for number, text in enumerate(texts):
        on_progress("decoding everything twice", number / len(texts))
        once, twice = (_losses(which, text, actions, grid) for which in (lm, nudged))
        changes.append((once - twice).abs())
    spread = torch.cat(changes, -1)  # [2, rows, tokens]
    rows = zip(("none", *bits), spread.unbind(1), strict=True)
    return {
        "model": model.name,
        "dtype": model.dtype_name,
        "tokens": spread.shape[-1],
        "bits": {str(name): _quantiles(row) for name, row in rows},
    }


def _losses(
    lm: FrozenLM, text: Sequence[int], actions: Sequence[Action], grid: ActionGrid
) -> Tensor:
    """NLL and KL of every row and token: [2, rows, tokens] nats."""
    prefix, _ = read_prefix(lm, text[:CONTEXT], grid.page_size)
    rows = PlannedRows([[action] for action in actions])
    options = DecodeOptions(STEPS, grid.mechanisms, rows_per_sequence=len(actions))
    steps = teacher_forced(lm, prefix, [text[CONTEXT:]], rows, options)
    return torch.stack([torch.stack((step.nll[0], step.kl[0])) for step in steps], -1)


def _quantiles(change: Tensor) -> dict[str, float]:
    """Of changes of NLL and KL [2, tokens], nats."""
    return {
        f"{name}_{share}": float(values.quantile(share / 100))
        for name, values in zip(("nll", "kl"), change, strict=True)
        for share in (50, 95)
    }
