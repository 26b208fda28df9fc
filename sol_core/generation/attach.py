"""Lets a transformers model generate under a schedule: in a ``with`` block, or for one call.

Its own ``generate`` still samples, searches and stops; only the results of ``forward`` come from
this decoder. Afterwards the model is unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sol_core.actions import Action, ActionGrid, Budget, Spend, parse_budget
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError
from sol_core.events import StepCost
from sol_core.fields import check_kind, with_nearest
from sol_core.generation.attached_calls import Call, Text, Texts, check_modes
from sol_core.generation.schedules import (
    GenerationSchedules,
    mark_without_budget,
    with_grid,
    with_schedule,
)
from sol_core.models.kept_prefixes import OwnersPrefixes
from sol_core.models.loading import LanguageModel, frozen_copy
from sol_core.policy.policy import Policy

if TYPE_CHECKING:
    import transformers
    from transformers import PreTrainedModel

    from sol_core.models import FrozenLM


_PATCHED = ("forward", "generate")


@dataclass(slots=True)
class Attached:
    """Record of the spend in the block so far.

    Attributes:
        actions: action of each decoded token of all generations; prompts are read densely.
        cost, dense_cost: computed cost of these steps at their actions, and done densely.
    """

    actions: list[Action] = field(default_factory=list)
    cost: StepCost = field(default_factory=StepCost)
    dense_cost: StepCost = field(default_factory=StepCost)

    @property
    def spend(self) -> Spend | None:
        """Return the mean spend; None before the first token."""
        if not self.actions:
            return None
        sums = map(sum, zip(*(action.as_tuple() for action in self.actions), strict=True))
        read, dense = self.cost.bytes_read, self.dense_cost.bytes_read
        return Spend.of_steps(sums, len(self.actions), read, dense)


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

    One sequence at a time, without padding: greedy and sampled generation, no beams, chunks or
    assistants. ``forward`` gives logits of the shape that transformers gives, and a cache that
    names the text and stays empty: the next call has it and one token, or the whole text. Weights
    are copied for the length of the block.

    Args:
        policy, budget: as for ``generate``: a policy with its budget, your own function, a budget
            alone (static), or neither (dense).
        grid: levels and mechanisms without a policy; None is the default grid.
        max_new_tokens: room in a generation's cache.
    Yields: the record of the spend so far.
    Raises: ConfigError; UnsupportedModelError for an unsupported family; PolicyError for another
        model's policy.
    """
    from transformers import PreTrainedModel

    check_kind("model", model, PreTrainedModel, "a model of transformers")

    def find(_: str) -> Any:
        return mark_without_budget(policy, budget)  # type: ignore[arg-type]  # asked for a policy alone

    chosen = with_grid(with_schedule(GenerationConfig(grid=grid), policy, budget), find)
    lm, fingerprint, _ = frozen_copy(model)
    # Without tokenizer and name, which stay with the caller's model.
    ours = LanguageModel("", fingerprint, lm, None, frozenset())  # type: ignore[arg-type]
    schedules = GenerationSchedules(ours, chosen, find)
    options = DecodeOptions(max_new_tokens, chosen.grid_in_use.mechanisms)
    schedules.build(max_new_tokens, [0])  # raises now if the budget is wrong
    steps = _Steps(lm, chosen.grid_in_use.page_size, schedules, options, ours.prefixes)
    with _decoded_by(steps, model):
        yield steps.spent


@contextmanager
def _decoded_by(steps: _Steps, model: PreTrainedModel) -> Iterator[None]:
    """Replace a model's ``forward`` by ``steps``', and refuse unsupported modes of ``generate``."""
    patched: Any = model
    whole_generate = patched.generate

    @wraps(model.forward)
    def forward(
        input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **others: Any
    ) -> Any:
        return steps.forward(Call.read(model, input_ids, attention_mask, others))

    @wraps(whole_generate)
    def generate(*values: Any, **given: Any) -> Any:
        check_modes(model, values, given)
        return whole_generate(*values, **given)

    # Patches of an enclosing block or library.
    before = {name: vars(model)[name] for name in _PATCHED if name in vars(model)}
    patched.forward, patched.generate = forward, generate
    try:
        yield
    finally:
        for name in _PATCHED:
            del vars(model)[name]
        vars(model).update(before)
        steps.texts.release()


def sol_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: transformers.LogitsProcessorList,
    stopping_criteria: transformers.StoppingCriteriaList,
    generation_config: transformers.GenerationConfig,
    policy: Policy | Schedule | None = None,
    budget: Budget | str | None = None,
    grid: ActionGrid | None = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode under a schedule, as the ``custom_generate`` of transformers' ``generate``.

    ``hf_model.generate(**inputs, custom_generate=sol_generate, policy=…, budget="60%")`` is one
    call under ``attach``: the same tokens, limits and refusals. Weights are copied for the call;
    a block of ``attach`` copies them once for many, and tells what was spent.

    Args:
        policy, grid: as for ``attach``.
        budget: a Budget, or text as on the command line: "60%" or "0.5,0.7,8".
        model, input_ids, logits_processor, stopping_criteria, generation_config, streamer,
            model_kwargs: what ``generate`` hands to the callable.
    Returns: as ``generate`` without it.
    Raises: as ``attach``.
    """
    check_modes(model, (), {"generation_config": generation_config})
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    room = generation_config.max_length - input_ids.shape[1]
    if streamer is None:
        # ``generate`` hands a callable only arguments that its own ``_sample`` lacks, so never its
        # streamer (transformers 5.0 to 5.24), which would wait forever: it is read from the caller.
        streamer = sys._getframe(1).f_locals.get("streamer")
    with attach(model, policy, asked, grid=grid, max_new_tokens=room):
        return model._sample(  # type: ignore[operator]  # of the mixin, which subclasses have
            input_ids,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            streamer=streamer,
            **model_kwargs,
        )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The decode loop, fed by somebody else's."""

    lm: FrozenLM
    page_size: int
    schedules: GenerationSchedules
    options: DecodeOptions
    prefixes: OwnersPrefixes
    spent: Attached = field(default_factory=Attached)
    texts: Texts = field(default_factory=Texts)

    @torch.no_grad()
    def forward(self, call: Call) -> Any:
        """The output of ``forward``: logits after every token of a text, or after one more."""
        from transformers.modeling_outputs import CausalLMOutputWithPast

        text, cache = self.texts.continued_text(call), call.cache
        before = [torch.empty(1, 0, self.lm.spec.vocab_size, device=self.lm.device)]
        if text is None:
            text = self._begun(call.ids)
            cache = self.texts.keep(call, text)
            if call.is_whole and len(call.ids) > 1:
                fed = torch.tensor([call.ids[:-1]], device=self.lm.device)
                hidden = self.lm.prefill(fed, self.lm.new_cache(1, fed.shape[1]))
                before.append(self.lm.logits(hidden[0])[None])
        else:
            text.seen.append(call.ids[-1])
        step = next(text.steps, None)
        if step is None:
            raise ConfigError(
                f"the generation has more than {self.options.max_steps} new tokens: give attach() "
                "more as max_new_tokens"
            )
        self._count(step)
        logits = torch.cat([*before, step.output.logits[:, None]], 1)
        kept = slice(-call.kept, None) if isinstance(call.kept, int) else call.kept
        names = {item.name for item in fields(CausalLMOutputWithPast)}
        named = "cache" if "cache" in names else "past_key_values"
        return CausalLMOutputWithPast(logits=logits[:, kept], **{named: cache})

    def _count(self, step: DecodeStep) -> None:
        spent, costs = self.spent, self.schedules.costs
        spent.actions.append(step.actions[0])
        spent.cost += step.cost(costs)
        spent.dense_cost += costs.dense_step(step.cached_tokens[0])

    def _begun(self, ids: list[int]) -> Text:
        lm, scheduler = self.lm, self.schedules.build(self.options.max_steps, [len(ids) - 1])
        observe = self.options.mechanisms if scheduler.observes else None
        read = read_prefix(lm, ids[:-1], self.page_size, observe, prefixes=self.prefixes)
        seen, cache = list(ids), read.cache.branch(1, self.options.max_steps)
        return Text(
            seen,
            decode(lm, cache, seen[-1:], scheduler, lambda _: seen[-1:], self.options, read.state),
        )
