"""Lets a transformers model generate under a schedule inside a ``with`` block.

Its own ``generate`` still samples, searches and stops; only the results of ``forward`` come from
this decoder. After the block the model is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError
from sol_core.fields import check_kind, with_nearest
from sol_core.generation.schedules import GenerationSchedules, in_hand, with_schedule
from sol_core.models.loading import LanguageModel, frozen_copy
from sol_core.policy import Policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sol_core.models import FrozenLM


# Outputs that forward refuses, and the call that gives them.
_REFUSED = {
    "labels": "score(model, text, policy, budget) gives the loss of every token",
    "output_hidden_states": "ask the model outside the block",
    "output_attentions": 'generate(…, record={"attention"}) keeps what each page got',
}


@dataclass(slots=True)
class Attached:
    """Record of the spend in the block so far.

    Attributes:
        actions: of every decoded token, of all generations; prompts are read densely.
    """

    actions: list[Action] = field(default_factory=list)

    @property
    def spend(self) -> Budget | None:
        """Mean of the actions; None before the first."""
        if not self.actions:
            return None
        sums = map(sum, zip(*(action.as_tuple() for action in self.actions), strict=True))
        return Budget(*(total / len(self.actions) for total in sums))


@with_nearest
@contextmanager
def attach(
    model: PreTrainedModel,
    policy: Policy | Schedule | None = None,
    budget: Budget | None = None,
    *,
    grid: ActionGrid | None = None,
    max_new_tokens: int = 1024,
) -> Iterator[Attached]:
    """Let a transformers model decode under a schedule inside a ``with`` block.

    One sequence at a time, without padding: greedy and sampled generation, no beams. ``forward``
    gives logits of the shape that transformers gives, and nothing else. Weights are copied for the
    length of the block.

    Args:
        policy, budget: as for ``generate``: a policy with its budget, a function of your own, a
            budget alone (static), or neither (dense).
        grid: levels and mechanisms without a policy; None is the default one.
        max_new_tokens: room in a generation's cache.
    Yields: the record of the spend so far.
    Raises: ConfigError; UnsupportedModelError for a family that this decoder does not have;
        PolicyError for a policy of another model.
    """
    from transformers import PreTrainedModel

    check_kind("model", model, PreTrainedModel, "a model of transformers")
    chosen = with_schedule(None if grid is None else GenerationConfig(grid=grid), policy, budget)
    lm, fingerprint = frozen_copy(model)
    # Neither tokenizer nor name: they stay with the caller's model.
    ours = LanguageModel("", fingerprint, lm, None, frozenset())  # type: ignore[arg-type]
    schedules = GenerationSchedules(ours, chosen, lambda _: in_hand(policy, budget))  # type: ignore[arg-type]  # asked for a policy alone
    options = DecodeOptions(max_new_tokens, chosen.grid.mechanisms)
    schedules.build(max_new_tokens)  # what is wrong with a budget is said now
    steps = _Steps(lm, chosen.grid.page_size, schedules, options)

    @wraps(model.forward)
    def forward(
        input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **others: Any
    ) -> Any:
        _check_wishes(model, others)
        return steps.forward(_one_sequence(input_ids, attention_mask), others)

    before = vars(model).get("forward")  # of a block or a library around this one
    model.forward = forward
    try:
        yield steps.spent
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def _check_wishes(model: PreTrainedModel, wishes: dict[str, Any]) -> None:
    """Raises: ConfigError for outputs other than logits."""
    for name, instead in _REFUSED.items():
        wanted = wishes.get(name)
        if wanted is None and name.startswith("output_"):
            wanted = getattr(model.config, name, False)
        if wanted is not None and wanted is not False:
            raise ConfigError(f"an attached model gives logits, no {name}: {instead}")
    if wishes.get("return_dict") is False:
        raise ConfigError("an attached model gives a ModelOutput: leave return_dict out")


def _one_sequence(ids: Tensor | None, mask: Tensor | None) -> list[int]:
    """Raises: ConfigError for what is not one sequence of tokens without padding."""
    if ids is None or ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] == 0:
        given = "embeddings" if ids is None else f"a batch of {tuple(ids.shape)}"
        raise ConfigError(f"an attached model takes one sequence of tokens at a time, got {given}")
    if mask is not None and not bool(mask.all()):
        raise ConfigError("an attached model takes no padding: leave it out")
    return [int(token) for token in ids[0]]


@dataclass(slots=True)
class _Steps:
    """The decode loop, fed by somebody else's."""

    lm: FrozenLM
    page_size: int
    schedules: GenerationSchedules
    options: DecodeOptions
    spent: Attached = field(default_factory=Attached)
    seen: list[int] = field(default_factory=list)  # tokens of the generation that runs
    cache: Any = None  # transformers' own, which tells generations apart
    steps: Iterator[DecodeStep] | None = None

    def forward(self, ids: list[int], others: dict[str, Any]) -> Any:
        """The output of ``forward`` for one sequence and its other arguments."""
        from transformers.modeling_outputs import CausalLMOutputWithPast

        cache = others.get("cache", others.get("past_key_values"))
        keep = others.get("logits_to_keep", 0)
        logits = self._logits(ids, cache, whole=not (isinstance(keep, int) and keep == 1))
        kept = slice(-keep, None) if isinstance(keep, int) else keep
        return CausalLMOutputWithPast(logits=logits[:, kept])

    @torch.no_grad()
    def _logits(self, ids: list[int], cache: Any, *, whole: bool) -> Tensor:
        """Logits after a prompt, or after one token more of the generation that runs.

        Args:
            whole: of all tokens, those before the last one densely.
        Returns: [1, T, V]; without ``whole`` [1, 1, V].
        """
        goes_on = self.steps is not None and cache is self.cache
        if goes_on and cache is None:  # the whole sequence comes each time
            goes_on = ids[:-1] == self.seen and not whole
        before = [torch.empty(1, 0, self.lm.spec.vocab_size, device=self.lm.device)]
        if not goes_on or (cache is not None and len(ids) > 1):
            self.cache, self.seen, self.steps = cache, ids, self._begin(ids)
            if whole and len(ids) > 1:
                before.append(self._dense_logits(ids[:-1]))
        else:
            self.seen = [*self.seen, ids[-1]]
        step = None if self.steps is None else next(self.steps, None)
        if step is None:
            raise ConfigError(
                f"the generation has more than {self.options.max_steps} new tokens: give attach() "
                "more as max_new_tokens"
            )
        self.spent.actions.append(step.actions[0])
        return torch.cat([*before, step.output.logits[:, None]], 1)

    def _dense_logits(self, ids: list[int]) -> Tensor:
        fed = torch.tensor([ids], device=self.lm.device)
        hidden = self.lm.prefill(fed, self.lm.new_cache(1, len(ids)))
        return self.lm.logits(hidden[0])[None]

    def _begin(self, ids: list[int]) -> Iterator[DecodeStep]:
        lm, scheduler = self.lm, self.schedules.build(self.options.max_steps)
        observe = self.options.mechanisms if scheduler.observes else None
        prefix, state = read_prefix(lm, ids[:-1], self.page_size, observe)
        fed = ids[-1:]
        return decode(lm, prefix, fed, scheduler, lambda _: self.seen[-1:], self.options, state)
