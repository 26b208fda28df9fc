"""Continuations under the dense model: one pass over the text, no decode steps.

The same numbers as dense decode steps, computed as other evaluation programs do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sol_core.decoding.finite import require_finite
from sol_core.models import FrozenLM
from sol_core.tasks.encoding import Continuation

PLACES = 1024  # whose logits are made at once


@torch.no_grad()
def score_densely(lm: FrozenLM, ones: Sequence[Continuation]) -> list[tuple[float, bool]]:
    """Per continuation, the log-likelihood of its tokens together, nats, and whether each was
    the most probable one.

    Raises: NotFiniteError.
    """
    texts = list(
        dict.fromkeys((continuation.context + continuation.tokens)[:-1] for continuation in ones)
    )
    rows = {text: row for row, text in enumerate(texts)}  # answers by letter share one
    lengths = [len(text) for text in texts]
    padded = [text + (0,) * (max(lengths) - len(text)) for text in texts]
    cache = lm.new_cache(len(texts), max(lengths))
    hidden = lm.prefill(torch.tensor(padded, device=lm.device), cache, lengths)
    answers = []
    for continuation in ones:
        text = (continuation.context + continuation.tokens)[:-1]
        # Logits of the continuation's own places only, some at a time: a vocabulary is wide.
        last = hidden[rows[text], len(text) - len(continuation.tokens) : len(text)]
        wanted = torch.tensor(continuation.tokens, device=lm.device)
        likelihood, greedy = torch.zeros((), device=lm.device), True
        for places, tokens in zip(last.split(PLACES), wanted.split(PLACES), strict=True):
            log_probabilities = lm.logits(places).log_softmax(-1)
            likelihood += log_probabilities.gather(-1, tokens[:, None]).sum()
            greedy &= bool((log_probabilities.argmax(-1) == tokens).all())
        require_finite(likelihood, "the dense pass over a continuation")
        answers.append((float(likelihood), greedy))
    return answers
