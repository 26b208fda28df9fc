"""Results of the library: a finished generation and a scored text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sol_core.actions import Action, Spend
from sol_core.config import GenerationConfig
from sol_core.events import Event, FinishEvent, PrefillEvent, StepCost, TokenEvent, event_to_dict
from sol_core.reporting.figures import Line, Panel, framed, html_table, plot


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    Attributes:
        text: the generated text, without the prompt.
        tokens: one event per token: its action, surprisal, entropy, cost and time.
        finish: why it ended, totals, tokens per second.
        prompt, model, config, prefill: the request with its grid resolved, and its first event, for
            display in a notebook.
    """

    text: str
    tokens: tuple[TokenEvent, ...]
    finish: FinishEvent
    prompt: str
    model: str
    config: GenerationConfig
    prefill: PrefillEvent

    @property
    def spend(self) -> Spend | None:
        """Return the achieved mean spend; None without tokens."""
        return self.finish.spend

    def __repr__(self) -> str:
        spent = f", {self.spend.words}" if self.spend else ""
        return f"Generation({self.text!r}, {len(self.tokens)} tokens{spent})"

    def _repr_html_(self) -> str:
        """Show the page's coloured text, card and charts in a notebook, in a frame."""
        events: list[Event] = [self.prefill, *self.tokens, self.finish]
        records = [event_to_dict(event) for event in events]
        return framed("run", self.prompt, self.model, self.config.to_dict(), records)

    def plot(self) -> Any:
        """Plot each step's share of the bytes, its surprisal and its KL to the full model."""
        at = [token.index for token in self.tokens]
        share = [token.cost.bytes_read / token.dense_cost.bytes_read for token in self.tokens]
        lost = [Line("surprisal", at, [token.surprisal for token in self.tokens])]
        if any(token.kl_to_dense is not None for token in self.tokens):
            lost.append(Line("KL to dense", at, [token.kl_to_dense for token in self.tokens]))
        return _plot(at, share, lost)


@dataclass(frozen=True, slots=True)
class Score:
    """A text's scored tokens, their spend and negative log-likelihood.

    Attributes:
        token_ids: the scored tokens.
        actions: action of the decode step that predicted each token.
        nll: NLL of each token, nats.
        costs, dense_costs: computed cost of each step at its action, and of the same step dense.
        made_on: versions and machine (``provenance.py``).
    """

    token_ids: tuple[int, ...]
    actions: tuple[Action, ...]
    nll: tuple[float, ...]
    costs: tuple[StepCost, ...]
    dense_costs: tuple[StepCost, ...]
    made_on: dict[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> StepCost:
        """Return the computed cost of all steps."""
        return sum(self.costs, StepCost())

    @property
    def dense_cost(self) -> StepCost:
        """Return the computed cost of the same steps done densely."""
        return sum(self.dense_costs, StepCost())

    @property
    def mean_nll(self) -> float:
        """Return the mean NLL, nats per token."""
        return math.fsum(self.nll) / len(self.nll)

    @property
    def perplexity(self) -> float:
        """Return the exponential of the mean NLL."""
        return math.exp(self.mean_nll)

    @property
    def spend(self) -> Spend:
        """Return the achieved mean spend."""
        axes = zip(*(action.as_tuple() for action in self.actions), strict=True)
        read, dense = self.cost.bytes_read, self.dense_cost.bytes_read
        return Spend.of_steps(map(math.fsum, axes), len(self.actions), read, dense)

    def __repr__(self) -> str:
        of = f"{len(self.nll):,} tokens, {self.mean_nll:.4f} nats per token"
        return f"Score({of}, {self.spend.words})"

    def plot(self) -> Any:
        """Plot each step's share of the bytes and each token's NLL."""
        at = list(range(len(self.nll)))
        pairs = zip(self.costs, self.dense_costs, strict=True)
        share = [cost.bytes_read / dense.bytes_read for cost, dense in pairs]
        return _plot(at, share, [Line("NLL", at, self.nll)])

    def _repr_html_(self) -> str:
        """Show the means in a notebook."""
        rows = {
            "tokens": f"{len(self.nll):,}",
            "nats per token": f"{self.mean_nll:.4f}",
            "perplexity": f"{self.perplexity:.2f}",
            "spend": self.spend.words,
        }
        return html_table(("score", ""), list(rows.items()))


def _plot(at: Sequence[int], share: Sequence[float], lost: Sequence[Line]) -> Any:
    read = Panel("token", "share of the bytes", [Line("read", at, share)])
    return plot([read, Panel("token", "nats", lost)])
