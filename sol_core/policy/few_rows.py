"""A policy's step of a few rows on the CPU, through a kernel that is called once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.cpu_threads import kernel_threads
from kernels.decode_layer import DTYPES, as_array
from kernels.linear import FEW_ROWS
from kernels.policy_step import policy_step_kernel
from sol_core.batch_scheduling import StepObservation
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import Policy, StepInputs
from sol_core.policy.price_rule import PriceRule

__all__ = ["FewRowPolicy", "StepState"]


class StepState(NamedTuple):
    """What an episode came to so far: [R, 3] each, shares of dense.

    Attributes:
        goals: what to aim at but for the excess.
        targets: requested means.
        excess: spent beyond the targets.
        previous: spends of the step before.
        share: of the excess that is made good in a step.
        greedy: take the most probable levels; excess and previous become theirs, in place.
    """

    goals: Tensor
    targets: Tensor
    excess: Tensor
    previous: Tensor
    share: float
    greedy: bool


class FewRowPolicy:
    """``Policy.logits`` step by step for R rows, with the episode's memory inside.

    The kernel reads the network's own memory: weights that training changes in place and
    prices that are measured anew count from the next step on.
    """

    def __init__(
        self, policy: Policy, network: DamageNetwork, kernel: Callable[..., None], num_rows: int
    ) -> None:
        self._policy, self._kernel = policy, kernel
        self._embedding = as_array(policy.embedding)
        self._ends = tuple(as_array(end) for end in policy.ends)
        self._network: tuple[Any, ...] = (_encoder(network), _heads(network), None)
        steps, width = policy.info.episode_steps, network.encoder.project.out_features
        self._memory = np.empty((2, num_rows, steps, width), np.float32)
        self._rule: PriceRule | None = None
        self._levels = max(len(levels) for levels in policy.levels)

    @staticmethod
    def make(policy: Policy, num_rows: int) -> FewRowPolicy | None:
        """For a policy and a number of rows that the kernel takes, where it can run; else None."""
        network, embedding = policy.network, policy.embedding
        fits = embedding.device.type == "cpu" and embedding.dtype in DTYPES
        if num_rows > FEW_ROWS or not fits or not isinstance(network, DamageNetwork):
            return None
        kernel = policy_step_kernel()
        return None if kernel is None else FewRowPolicy(policy, network, kernel, num_rows)

    def step(
        self, observation: StepObservation, state: StepState, step: int
    ) -> tuple[StepInputs, Tensor, Tensor]:
        """An episode's step; steps come in order.

        Returns: what was seen, T = 1; logits [R, 3, levels of the longest axis]; the most
            probable levels [R, 3].
        """
        layout, num_rows = self._policy.info.layout, observation.tokens.shape[0]

        def part(values: Tensor | None, width: int) -> Any:
            if values is None:
                return np.zeros((num_rows, width), np.float32)
            return values.numpy().reshape(num_rows, width)

        has_state = float(observation.hidden is not None)
        known = [[math.log2(cached + 1), has_state] for cached in observation.cached_tokens]
        seen = (
            part(observation.hidden, layout.hidden_size),
            part(observation.mid_hidden, 2 * layout.hidden_size),
            part(observation.concentration, layout.num_layers),
            part(observation.entropy, 1),
            part(observation.surprisal, 1),
            np.array(known, np.float32),
        )
        return self._run(seen, observation.tokens, state, step)

    def logits(self, inputs: StepInputs, step: int) -> Tensor:
        """Logits as of ``step``, for what was seen before; inputs: T = 1."""
        layout = self._policy.info.layout
        widths = (layout.hidden_size, 2 * layout.hidden_size, layout.num_layers, 1, 1, 2, 3)
        parts = inputs.rows[:, 0].split(widths, 1)
        seen = tuple(np.ascontiguousarray(part.numpy()) for part in parts[:-1])
        aims, previous = inputs.aims[:, 0].contiguous(), parts[-1].contiguous()
        state = StepState(aims, aims, torch.zeros_like(aims), previous, 0.0, greedy=False)
        return self._run(seen, inputs.tokens[:, 0].contiguous(), state, step)[1]

    def _run(
        self, seen: tuple[Any, ...], tokens: Tensor, state: StepState, step: int
    ) -> tuple[StepInputs, Tensor, Tensor]:
        if self._policy.rule is not self._rule:
            self._rule = self._policy.rule
            self._network = (*self._network[:2], _prices(self._rule))
        rows = tokens.shape[0]
        found = (
            np.empty((rows, self._policy.info.layout.width), np.float32),
            np.empty((rows, 3), np.float32),
            np.empty((rows, 3, self._levels), np.float32),
            np.empty((rows, 3), np.int64),
        )
        self._kernel(
            seen,
            (tokens.numpy(), self._embedding),
            (
                state.goals.numpy(),
                state.targets.numpy(),
                state.excess.numpy(),
                state.previous.numpy(),
                *self._ends,
                np.float32(state.share),
                state.greedy,
            ),
            self._network,
            self._memory,
            step,
            found,
            kernel_threads(),
        )
        row, aims, logits, choices = map(torch.from_numpy, found)
        inputs = StepInputs(row[:, None], tokens[:, None], aims[:, None, :0], aims[:, None])
        return inputs, logits, choices


def _pair(module: nn.Linear | nn.LayerNorm) -> tuple[Any, Any]:
    return as_array(module.weight), as_array(module.bias)


def _encoder(network: DamageNetwork) -> Any:
    from kernels.policy_step.cpu import Encoder

    encoder = network.encoder
    return Encoder(
        as_array(encoder.rest_mean),
        as_array(encoder.rest_scale),
        _pair(encoder.project),
        _pair(encoder.attention_norm),
        _pair(encoder.query_key_value),
        _pair(encoder.attention_output),
        _pair(encoder.mlp_norm),
        _pair(encoder.mlp_in),
        _pair(encoder.mlp_out),
        _pair(encoder.final_norm),
        encoder.num_heads,
    )


def _heads(network: DamageNetwork) -> Any:
    from kernels.policy_step.cpu import DamageHeads

    return DamageHeads(
        tuple(_pair(head) for head in network.linears),
        tuple(as_array(base) for base in network.base),
        tuple(as_array(place) for place in (network.place_0, network.place_1, network.place_2)),
        as_array(network.log_sharpness),
    )


def _prices(rule: PriceRule) -> Any:
    from kernels.policy_step.cpu import Prices

    return Prices(*rule.arrays())
