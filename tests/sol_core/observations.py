"""Observations of one row, in plain numbers."""

import torch

from sol_core.decoding.batch_scheduling import StepObservation, StepReads


def observed(step, hidden=None, entropy=None, cached_tokens=0, tokens_read=None):
    """Hidden: [C]; entropy in nats."""
    return StepObservation(
        step,
        torch.zeros(1, dtype=torch.int64),
        (cached_tokens,),
        None if hidden is None else hidden[None],
        entropy=None if entropy is None else torch.tensor([entropy]),
        reads=None if tokens_read is None else (StepReads(tokens_read),),
    )
