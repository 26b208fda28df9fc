"""Compresses single steps of a text, compares ways to divide a budget, finds massive activations.

Each step branches off a dense run under each action, so no step sees another's compression.
Spenders divide the same channels evenly, by a policy, or in hindsight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels.activation_quantisation.reference import fake_quantise
from kernels.quantisation_levels import SCALE_BLOCK
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action, ActionGrid, Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions, ScoredStep, teacher_forced
from sol_core.decoding.prefix import read_prefix
from sol_core.decoding.schedules import StaticSchedule
from sol_core.events import Alternative, PageReads
from sol_core.generation.scoring import score_text
from sol_core.generation.sequence import check_tokens, row_page_reads, top_alternatives
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from sol_core.models.weights import Linear
from sol_core.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class MlpOutput:
    """One token's output of one layer's MLP, and its rounding."""

    token: int  # index in the text
    layer: int  # 1-based
    layers: int  # number of layers
    magnitudes: tuple[float, ...]  # channels' magnitudes, largest first
    median: float  # median magnitude
    bits: tuple[int, ...]
    zeros: tuple[int, ...]  # per bit width, channels that round to 0
    block_zeros: tuple[int, ...]  # the same with a scale per ``SCALE_BLOCK`` channels


def _mlp_outputs(lm: FrozenLM, tokens: Sequence[int]) -> Tensor:
    """Return the MLP outputs of a dense pass over T tokens: [layers, T, C] fp32."""
    outputs: dict[int, Tensor] = {}  # a retry after out-of-memory begins at layer 0

    def noted(index: int, down: Linear) -> Any:
        def multiply(inputs: Tensor) -> Tensor:
            output = down(inputs)
            outputs[index] = output[0].float()
            return output

        return multiply

    pairs = enumerate(lm.weights.layers)
    layers = tuple(replace(layer, down=noted(index, layer.down)) for index, layer in pairs)
    watched = FrozenLM(lm.spec, replace(lm.weights, layers=layers))
    fed = torch.tensor([list(tokens)], device=lm.device)
    watched.prefill(fed, watched.new_cache(1, len(tokens)))
    return torch.stack([outputs[index] for index in range(len(layers))])


@torch.no_grad()
def most_massive_output(
    model: LanguageModel, tokens: Sequence[int], first: int, bits: Sequence[int]
) -> MlpOutput:
    """Find the most uneven MLP output from token ``first`` on: largest over median magnitude."""
    check_tokens(model, tokens, "the text", len(tokens))
    outputs = _mlp_outputs(model.lm, tokens)[:, first:]
    magnitudes = outputs.abs()
    medians = magnitudes.median(-1).values
    uneven = magnitudes.amax(-1) / medians.clamp(min=1e-8)
    layer, at = divmod(int(uneven.argmax()), uneven.shape[1])
    ranked = magnitudes[layer, at].sort(descending=True).values
    widths = torch.tensor(list(bits), device=outputs.device)
    rows = outputs[layer, at].expand(len(bits), -1)
    zeros, block_zeros = (
        tuple((fake_quantise(rows, widths, block) == 0).sum(-1).tolist())
        for block in (0, SCALE_BLOCK)
    )
    return MlpOutput(
        token=first + at,
        layer=layer + 1,
        layers=len(outputs),
        magnitudes=tuple(ranked.tolist()),
        median=float(medians[layer, at]),
        bits=tuple(bits),
        zeros=zeros,
        block_zeros=block_zeros,
    )


@dataclass(frozen=True, slots=True)
class StepLoss:
    """Loss of one step under one action after a dense past."""

    nll: float  # NLL of the text's next token, nats
    kl: float  # KL(dense ‖ this), nats
    page_reads: PageReads | None = None  # None unless requested


@dataclass(frozen=True, slots=True)
class Choices:
    """Most probable next tokens after one step."""

    kl: float  # KL(dense ‖ this), nats
    entropy: float  # nats
    top: tuple[Alternative, ...]  # most probable tokens


@torch.no_grad()
def single_step_losses(
    model: LanguageModel,
    tokens: Sequence[int],
    first: int,  # index of the first scored token, at least 1
    actions: Sequence[Action],
    grid: ActionGrid,
    *,
    with_reads: bool = False,
    after_step: Callable[[], None] = lambda: None,
) -> list[list[StepLoss]]:
    """Measure the loss of each step from ``first`` on under each action: [actions][steps].

    Args:
        after_step: called after each step; an exception from it ends the measurement.
    """
    check_tokens(model, tokens, "the text", len(tokens))
    table: list[list[StepLoss]] = [[] for _ in actions]
    scored = range(first - 1, len(tokens) - 1)
    for step in _steps(model, tokens, scored, actions, grid, with_reads=with_reads):
        nll, kl = step.nll[0].tolist(), step.kl[0].tolist()
        for row, losses in enumerate(table, start=1):
            reads = row_page_reads(model, step.step, row, grid) if with_reads else None
            losses.append(StepLoss(nll[row], kl[row], reads))
        after_step()
    return table


@torch.no_grad()
def next_choices(
    model: LanguageModel, tokens: Sequence[int], actions: Sequence[Action]
) -> list[Choices]:
    """Return the most probable next tokens after a text, densely and under each action."""
    check_tokens(model, tokens, "the text", len(tokens))
    unread = [*tokens, 0]  # a placeholder for the unknown next token
    (step,) = _steps(model, unread, range(len(tokens) - 1, len(tokens)), actions, ActionGrid())
    numbers = zip(step.kl[0].tolist(), step.step.entropy.tolist(), strict=True)
    return [
        Choices(0.0 if action.is_dense else kl, entropy, top_alternatives(model, row))
        for action, (kl, entropy), row in zip(
            (DENSE, *actions), numbers, step.log_probabilities[0], strict=True
        )
    ]


def _steps(
    model: LanguageModel,
    tokens: Sequence[int],
    fed: range,
    actions: Sequence[Action],
    grid: ActionGrid,
    *,
    with_reads: bool = False,
) -> Iterator[ScoredStep]:
    """Decode the steps that feed these tokens, densely and under the given actions."""
    lm, record = model.lm, {"pages"} if with_reads else ()
    group, how = 1 + len(actions), grid.mechanisms
    options = DecodeOptions(1, how, record=record)
    read = read_prefix(lm, tokens[: fed[0]], grid.page_size, prefixes=model.prefixes)
    past = read.cache.branch(1, len(fed))
    for at in fed:
        rows = PlannedRows([[action] for action in (DENSE, *actions)])
        cache, path = past.branch(group, 1), tokens[at : at + 2]
        yield from teacher_forced(lm, cache, [path], rows, options)
        lm.decode_step(torch.tensor(tokens[at : at + 1], device=lm.device), past, mechanisms=how)


def best_in_hindsight(
    damages: Sequence[Sequence[float]], levels: Sequence[float], mean: float
) -> list[int]:
    """Choose levels of least total damage ([steps][levels], nats) with a mean ≤ ``mean``."""
    chosen = [0] * len(damages)
    left = mean * len(damages) - levels[0] * len(damages) + 1e-9
    while True:
        offers = [
            ((row[at] - row[up]) / (levels[up] - levels[at]), step, up)
            for step, (row, at) in enumerate(zip(damages, chosen, strict=True))
            for up in range(at + 1, len(levels))
            if levels[up] - levels[at] <= left
        ]
        gain, step, up = max(offers, default=(0.0, 0, 0))
        if gain <= 0:
            return chosen
        left -= levels[up] - levels[chosen[step]]
        chosen[step] = up


def compare_spenders(
    model: LanguageModel,
    tokens: Sequence[int],
    first: int,
    budget: float,
    policy: Policy | None,
    after_step: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], list[list[StepLoss]]]:
    """Divide the policy's spend, or the budget, among the steps.

    Args:
        after_step: as for ``single_step_losses``.
    Returns: channels of each step by spender ("policy" if given, "even", "hindsight"), and the
        losses [levels][steps].
    """
    grid = policy.info.grid if policy else GRIDS[DEFAULT_GRID]
    levels = grid.channel_keep_ratios
    actions = [Action(channel_keep_ratio=level) for level in levels]
    table = single_step_losses(model, tokens, first, actions, grid, after_step=after_step)
    steps = len(tokens) - first
    plans: dict[str, list[float]] = {}
    if policy:
        schedule = ScheduleConfig("policy", Budget(channel_keep_ratio=budget), policy="policy")
        config = GenerationConfig(schedule, grid=grid)
        scored = score_text(model, tokens, first, config, lambda _: policy)
        plans["policy"] = [action.channel_keep_ratio for action in scored.actions]
        budget = sum(plans["policy"]) / steps
    even = StaticSchedule(Budget(channel_keep_ratio=budget), grid)
    plans["even"] = [even.at(step).channel_keep_ratio for step in range(steps)]
    damages = [[row[step].kl for row in table] for step in range(steps)]
    plans["hindsight"] = [levels[at] for at in best_in_hindsight(damages, levels, budget)]
    return plans, table
