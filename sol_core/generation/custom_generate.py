"""The ``generate`` of transformers under a schedule, by its hook ``custom_generate``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sol_core.actions import ActionGrid, Budget, parse_budget
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError
from sol_core.generation.schedules import GenerationSchedules, as_found, resolved, with_schedule
from sol_core.models.loading import LanguageModel, frozen_copy
from sol_core.policy.policy import Policy

if TYPE_CHECKING:
    import transformers
    from transformers import PreTrainedModel

# Modes of ``generate`` that feed a prompt in pieces or several tokens after it, and outputs that
# this decoder does not make.
_MODES = ("prefill_chunk_size", "assistant_model", "prompt_lookup_num_tokens")
_OUTPUTS = ("output_hidden_states", "output_attentions")


def sol_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: Callable[[Tensor, Tensor], Tensor],
    stopping_criteria: Callable[[Tensor, Tensor], Tensor],
    generation_config: transformers.GenerationConfig,
    policy: Policy | Schedule | None = None,
    budget: Budget | str | None = None,
    grid: ActionGrid | None = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode under a schedule, as the ``custom_generate`` of transformers' ``generate``.

    ``hf_model.generate(**inputs, custom_generate=sol_generate, policy=…, budget="60%")`` is one
    call. Sampling, stopping criteria and streamers stay transformers'. Weights are copied for the
    call; the model does not change.

    Args:
        policy, budget: as for ``generate``: a policy with its budget, a function of your own, a
            budget alone (static), or neither (dense). A budget may be text as on the command line:
            "60%" or "0.5,0.7,8".
        grid: levels and mechanisms without a policy; None is the default one.
        model, input_ids, logits_processor, stopping_criteria, generation_config, streamer,
            model_kwargs: what ``generate`` hands to the callable; one sequence without padding.
    Returns: as ``generate`` without it.
    Raises: ConfigError; UnsupportedModelError for a family that this decoder does not have;
        PolicyError for a policy of another model.
    """
    _check_request(model, generation_config)
    seen = _one_sequence(input_ids, model_kwargs.get("attention_mask"))
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    if streamer is None:
        # ``generate`` keeps it from a callable (transformers 5.24): a streamer then waits forever.
        streamer = sys._getframe(1).f_locals.get("streamer")

    def find(_: str) -> Any:
        return as_found(policy, asked)  # type: ignore[arg-type]  # asked for a policy alone

    chosen = resolved(with_schedule(GenerationConfig(grid=grid), policy, asked), find)
    lm, fingerprint, _ = frozen_copy(model)
    # Neither tokenizer nor name: they stay with the caller's model.
    ours = LanguageModel("", fingerprint, lm, None, frozenset())  # type: ignore[arg-type]
    room = generation_config.max_length - len(seen)
    options = DecodeOptions(room, chosen.grid_in_use.mechanisms)
    scheduler = GenerationSchedules(ours, chosen, find).build(room)
    observe = options.mechanisms if scheduler.observes else None
    read = read_prefix(lm, seen[:-1], chosen.grid_in_use.page_size, observe)
    prefix, logits, scores = (read.cache, seen[-1:]), list[Tensor](), list[Tensor]()
    for step in decode(lm, *prefix, scheduler, lambda _: seen[-1:], options, read.state):
        logits.append(step.output.logits)
        scores.append(logits_processor(input_ids, step.output.logits))
        if generation_config.do_sample:
            token = torch.multinomial(scores[-1].softmax(-1), 1)
        else:
            token = scores[-1].argmax(-1, keepdim=True)
        input_ids = torch.cat([input_ids, token], -1)
        seen.append(int(token))
        if streamer is not None:
            streamer.put(token[0].cpu())
        if bool(stopping_criteria(input_ids, scores[-1]).all()):
            break
    if streamer is not None:
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return input_ids
    from transformers.generation.utils import GenerateDecoderOnlyOutput

    output: Any = GenerateDecoderOnlyOutput
    return output(
        sequences=input_ids,
        scores=tuple(scores) if generation_config.output_scores else None,
        logits=tuple(logits) if generation_config.output_logits else None,
    )


def _check_request(model: PreTrainedModel, config: transformers.GenerationConfig) -> None:
    """Raises: ConfigError for a mode of ``generate`` that does not decode token by token."""
    for name in _MODES:
        if any(
            getattr(given, name, None) is not None for given in (config, model.generation_config)
        ):
            raise ConfigError(
                "a prompt is read at once and decoded token by token under a schedule: leave "
                f"{name} out"
            )
    for name in _OUTPUTS:
        if getattr(config, name, False):
            raise ConfigError(
                f'a step under a schedule gives no {name}: generate(…, record={{"hidden", '
                '"attention"}) of this package keeps them'
            )


def _one_sequence(ids: Tensor, mask: Tensor | None) -> list[int]:
    """The tokens of a sequence without padding. Raises: ConfigError for anything else."""
    if ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] == 0:
        raise ConfigError(
            "one sequence of tokens is decoded at a time under a schedule, got a batch of "
            f"{tuple(ids.shape)}"
        )
    if mask is not None and (mask.dim() != 2 or not bool(mask.all())):
        raise ConfigError("a schedule takes no padding and no mask of its own: leave it out")
    return [int(token) for token in ids[0]]
