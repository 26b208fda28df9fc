"""Continuations under the dense model: one pass over the text, no decode steps.

The same numbers as dense decode steps, computed as other evaluation programs do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sol_core.decoding.finite import require_finite
from sol_core.models import FrozenLM
from sol_core.tasks.encoding import Continuation

__all__ = ["score_densely"]


@torch.no_grad()
def score_densely(lm: FrozenLM, ones: Sequence[Continuation]) -> list[tuple[float, bool]]:
    """Per continuation, the log-likelihood of its tokens together, nats, and whether each was
    the most probable one.

    Raises: NotFiniteError.
    """
    texts = [(one.context + one.tokens)[:-1] for one in ones]
    lengths = [len(text) for text in texts]
    padded = [text + (0,) * (max(lengths) - len(text)) for text in texts]
    cache = lm.new_cache(len(ones), max(lengths))
    hidden = lm.prefill(torch.tensor(padded, device=lm.device), cache, lengths)
    found = []
    for row, one in enumerate(ones):
        # Logits of the continuation's own places only: a vocabulary is wide.
        last = hidden[row, lengths[row] - len(one.tokens) : lengths[row]]
        log_probabilities = lm.logits(last).log_softmax(-1)
        wanted = torch.tensor(one.tokens, device=lm.device)
        likelihood = log_probabilities.gather(-1, wanted[:, None]).sum()
        require_finite(likelihood, "the dense pass over a continuation")
        greedy = bool((log_probabilities.argmax(-1) == wanted).all())
        found.append((float(likelihood), greedy))
    return found
