"""Rollouts of one text on one dense prefill, and one GRPO batch of sampled schedules.

GRPO (SOL, arXiv:2605.10875, section 4): a step's advantage is its discounted return minus the mean
return of its group, which differs only in schedules, at the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep, PrefixState, Windows
from sol_core.decoding.teacher_forcing import ScoredStep, kl_to_dense, teacher_forced, token_nll
from sol_core.models import FrozenLM, PrefillOutput
from sol_core.models.cache import KVCache
from sol_core.policy import Policy, PolicyScheduler
from sol_core.policy.policy import StepInputs, budget_shares
from sol_core.policy.scheduler import mean_entropy
from sol_core.training.config import GrpoConfig, TrainConfig


@dataclass(frozen=True, slots=True)
class StepScores:
    """One teacher-forced step of all rows: kl and nll [R]; the dense step's nll and entropy [B]."""

    step: DecodeStep
    kl: Tensor
    nll: Tensor
    dense_nll: Tensor
    dense_entropy: Tensor


@dataclass(frozen=True, slots=True)
class TextPrefill:
    """A text, prefilled densely once, of which rollouts start at given positions."""

    lm: FrozenLM
    tokens: Tensor  # [N + 1] int64; the last one is only predicted
    starts: Tensor  # [B] int64, ascending, positions of the first tokens fed, at least 1
    cache: KVCache
    output: PrefillOutput  # of the prefill of the first N, observed before the starts

    def rollout(
        self,
        starts: Sequence[int],
        rows_per_start: int,
        scheduler: BatchScheduler,
        steps: int,
        grid: ActionGrid,
    ) -> Iterator[StepScores]:
        """Teacher-forced decode steps from several positions at once."""
        first = torch.tensor(starts)
        seen = torch.searchsorted(self.starts, first)
        prefix = PrefixState(
            self.output.hidden[0, first - 1],
            self.output.mid_hidden[0, seen],
            self.output.attention_concentration[0, seen],
        )
        options = DecodeOptions(
            max_steps=steps,
            mechanisms=grid.mechanisms,
            rows_per_sequence=rows_per_start,
        )
        windows = Windows(self.cache, (0,) * len(starts), tuple(starts))

        paths = [self.tokens[start : start + steps + 1].tolist() for start in starts]
        for scored in teacher_forced(self.lm, windows, paths, scheduler, options, prefix):
            yield self._score(scored, first)

    def _score(self, scored: ScoredStep, first: Tensor) -> StepScores:
        hidden = self.output.hidden[0, first + scored.step.index]
        dense = torch.log_softmax(self.lm.logits(hidden), -1)
        kl, entropy = kl_to_dense(dense, scored.log_probabilities)
        dense_nll = token_nll(dense[:, None], scored.targets)[:, 0]
        return StepScores(scored.step, kl.flatten(), scored.nll.flatten(), dense_nll, entropy)


def prefill_text(
    lm: FrozenLM, tokens: Sequence[int], grid: ActionGrid, starts: Sequence[int]
) -> TextPrefill:
    """Prefill all tokens but the last, by a model that is prepared for batches."""
    lm.prepare_for_batches()
    text = torch.tensor(tokens)
    cache = lm.new_cache(1, len(tokens) - 1, page_size=grid.page_size)
    places = torch.tensor(starts)
    fed = text[None, :-1].to(lm.device)
    output = lm.observed_prefill(fed, cache, mechanisms=grid.mechanisms, observed=places - 1)
    return TextPrefill(lm, text, places, cache, output)


@dataclass(frozen=True, slots=True)
class GrpoLoss:
    """A loss to descend and what it is made of (detached scalars)."""

    loss: Tensor
    entropy: float
    clip_fraction: float


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """``R_t = Σ_{s≥t} γ^(s−t) r_s``: [..., T] → [..., T]."""
    returns = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[..., 0])
    for step in reversed(range(rewards.shape[-1])):
        running = rewards[..., step] + discount * running
        returns[..., step] = running
    return returns


def budget_penalty(spends: Tensor, targets: Tensor, config: GrpoConfig) -> Tensor:
    """The paper's ``Σ_axis α · max(|mean spend [B, G, T, axes] − target| − tolerance, 0)²``."""
    weights = config.penalty * spends.new_tensor([axis.penalty for axis in AXES])
    gap = (spends.mean(2) - targets[:, None]).abs() - config.tolerance
    return (weights * gap.clamp(min=0).square()).sum(-1)


def advantages(returns: Tensor, whitening: Literal["group", "batch"] = "group") -> Tensor:
    """Group-relative, in deviations of their group or batch: [B, G, T] → [B, G, T].

    A harsh budget's returns vary a hundred times as much as a mild one's: whitened together, as in
    the paper, only harsh budgets are learnt.
    """
    relative = returns - returns.mean(1, keepdim=True)
    axes = (1, 2) if whitening == "group" else (0, 1, 2)
    return relative / relative.std(axes, keepdim=True).clamp(min=1e-6)


def clipped_loss(
    logits: Sequence[Tensor],  # per head [N, T, levels], before the temperature
    choices: Tensor,  # [N, T, heads] int64
    old_log_probability: Tensor,  # old_log_probability, advantage: [N, T]
    advantage: Tensor,
    config: GrpoConfig,
) -> GrpoLoss:
    """PPO's clipped surrogate with an entropy bonus, to be minimised."""
    log_probability = torch.zeros_like(old_log_probability)
    heads = [torch.log_softmax(values / config.temperature, -1) for values in logits]
    for head, values in enumerate(heads):
        log_probability = log_probability + values.gather(-1, choices[..., head : head + 1])[..., 0]
    entropy = mean_entropy(heads)
    ratio = (log_probability - old_log_probability).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    loss = -gain.mean() - config.entropy_bonus * entropy.mean()
    outside = (ratio.detach() - 1).abs() > config.clip
    return GrpoLoss(loss, float(entropy.detach().mean()), float(outside.float().mean()))


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """N = windows · G episodes of T steps."""

    inputs: StepInputs  # what the policy saw
    choices: Tensor  # [N, T, heads] int64
    log_probability: Tensor  # [N, T]
    advantage: Tensor  # [N, T]
    damage: Tensor  # [N, T] KL to the dense step, nats
    reward: float  # mean task reward per step, nats
    gap: tuple[float, ...]  # mean spend minus target per axis, shares of dense


def draw_budgets(count: int, grid: ActionGrid, generator: torch.Generator) -> list[Budget]:
    """Targets, uniform over each axis (METHOD 5)."""
    budgets = []
    for _ in range(count):
        shares = torch.rand(len(AXES), generator=generator).tolist()
        axes = zip(AXES, grid.levels(), shares, strict=True)
        values = {
            axis.field: levels[0] + share * (levels[-1] - levels[0]) for axis, levels, share in axes
        }
        budgets.append(Budget(**values))
    return budgets


def roll_out(
    policy: Policy, text: TextPrefill, config: TrainConfig, generator: torch.Generator
) -> RolloutBatch:
    """Sample G schedules from each of some windows of a text."""
    grpo = config.grpo
    places = torch.randperm(config.windows, generator=generator)[: grpo.windows]
    starts = [config.starts[place] for place in places.sort().values.tolist()]
    budgets = draw_budgets(len(starts), config.grid, generator)
    scheduler = PolicyScheduler(
        policy,
        [budget for budget in budgets for _ in range(grpo.rollouts)],
        generator=generator,
        temperature=grpo.temperature,
        keep_steps=True,
    )
    steps = text.rollout(starts, grpo.rollouts, scheduler, config.steps, config.grid)
    scored = [(scores.kl, scores.kl if grpo.reward == "kl" else scores.nll) for scores in steps]
    damage, losses = (torch.stack(column, 1) for column in zip(*scored, strict=True))
    return _batch(scheduler, damage, -losses, budgets, grpo)


def _batch(
    scheduler: PolicyScheduler,
    damage: Tensor,
    rewards: Tensor,
    budgets: Sequence[Budget],
    config: GrpoConfig,
) -> RolloutBatch:
    policy, steps = scheduler.policy, scheduler.steps
    choices = torch.stack([step.choices for step in steps], 1)
    spends = policy.spends(policy.axis_levels(choices))
    grouped_spends = spends.unflatten(0, (len(budgets), -1))
    targets = budget_shares(budgets).to(spends.device)
    grouped = rewards.unflatten(0, (len(budgets), -1))
    if config.budget == "price" and policy.prices:
        prices = policy.rule.price(targets)
        grouped = grouped - (prices[:, None, None] * grouped_spends).sum(-1)
    returns = discounted_returns(grouped, config.discount)
    if config.budget == "penalty" or not policy.prices:
        penalty = budget_penalty(grouped_spends, targets, config)
        returns = returns - penalty[..., None]
    gap = (grouped_spends.mean((1, 2)) - targets).mean(0).tolist()
    return RolloutBatch(
        scheduler.inputs(),
        choices,
        torch.stack([step.log_probability for step in steps], 1),
        advantages(returns, config.whitening).flatten(0, 1),
        damage,
        float(rewards.mean()),
        tuple(gap),
    )
