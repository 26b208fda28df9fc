"""Inputs of a policy before a step, as one row of numbers: the paper's observation.

From the previous step: last hidden state, two middle hidden states, attention
concentration, entropy, how surprising the token now fed was. Besides: the number of cached
tokens, the previous action, and the embedding of the token, which is looked up when the row
is used so that stored rows stay small.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.models.signals import Observe
from sol_core.policy.info import InputLayout

_MAX_NATS = 15.0
_MAX_KEPT = 2.0**15  # fp16 ends just below 2**16


def observed_by(layout: InputLayout) -> Observe:
    """Return what a network with these inputs reads of a step."""
    return Observe.CONCENTRATION if layout.num_layers else Observe.STATES


def observation_row(
    observation: StepObservation, previous_action: Tensor, layout: InputLayout
) -> Tensor:
    """The rows of one step.

    Args:
        observation: of R rows.
        previous_action: [R, axes], shares of dense; ones at the start of an episode.
    Returns: [R, layout.width] fp32; zeros where there is nothing to observe.
    """
    num_rows = observation.tokens.shape[0]
    device = observation.tokens.device

    def filled(values: Tensor | None, width: int) -> Tensor:
        if values is None or width == 0:
            return torch.zeros(num_rows, width, device=device)
        return values.reshape(num_rows, width)

    has_state = float(observation.hidden is not None)
    known = [[math.log2(cached + 1), has_state] for cached in observation.cached_tokens]
    return torch.cat(
        (
            filled(observation.hidden, layout.hidden_size),
            filled(observation.mid_hidden, 2 * layout.hidden_size),
            filled(observation.concentration, layout.num_layers),
            filled(observation.entropy, 1),
            filled(observation.surprisal, 1).clamp(max=_MAX_NATS),
            torch.tensor(known, device=device),
            previous_action.to(device),
        ),
        dim=1,
    )


def kept_rows(rows: Tensor, layout: InputLayout) -> Tensor:
    """Rows in fp16, to be kept.

    A state that goes beyond fp16 (Gemma 3's middle states reach 100,000) is halved until it does
    not: networks normalise every state, and do not see it.

    Args:
        rows: [..., layout.width] fp32.
    """
    states, rest = layout.split(rows)
    largest = states.abs().amax(-1, keepdim=True)
    halvings = (largest / _MAX_KEPT).clamp(min=1.0).log2().ceil()
    return torch.cat(((states / halvings.exp2()).flatten(-2), rest), -1).half()
