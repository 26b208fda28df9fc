"""Finished work of the library: a generation, and a text that was scored."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sol_core.actions import Action, Budget
from sol_core.events import FinishEvent, TokenEvent
from sol_core.generation.notebook import coloured_tokens, table


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    Attributes:
        text: what was generated, the prompt left out.
        tokens: one event per token: its action, surprisal, entropy, cost, time.
        finish: why it ended, totals, tokens per second.
    """

    text: str
    tokens: tuple[TokenEvent, ...]
    finish: FinishEvent

    @property
    def spend(self) -> Budget | None:
        """Achieved mean per axis; None without tokens."""
        return self.finish.spend

    def _repr_html_(self) -> str:
        """HTML for a notebook: every token on the colour of what it cost."""
        tokens = self.tokens
        return coloured_tokens([token.text for token in tokens], [token.action for token in tokens])


@dataclass(frozen=True, slots=True)
class Score:
    """A text's tokens, what was spent on each, and their negative log-likelihood.

    Attributes:
        token_ids: the scored ones.
        actions: of the decode step that predicted each.
        nll: of each, nats.
    """

    token_ids: tuple[int, ...]
    actions: tuple[Action, ...]
    nll: tuple[float, ...]

    @property
    def mean_nll(self) -> float:
        """Nats per token."""
        return math.fsum(self.nll) / len(self.nll)

    @property
    def perplexity(self) -> float:
        """Exponential of the mean NLL."""
        return math.exp(self.mean_nll)

    @property
    def spend(self) -> Budget:
        """Achieved mean per axis."""
        axes = zip(*(action.as_tuple() for action in self.actions), strict=True)
        return Budget(*(math.fsum(axis) / len(self.actions) for axis in axes))

    def _repr_html_(self) -> str:
        """HTML for a notebook: the means."""
        return table(
            {
                "tokens": f"{len(self.nll):,}",
                "nats per token": f"{self.mean_nll:.4f}",
                "perplexity": f"{self.perplexity:.2f}",
                "spend": self.spend.words,
            }
        )
