"""A policy's step of a few rows on the CPU, through a kernel that is called once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels.cpu_threads import kernel_threads
from kernels.decode_layer import as_array
from kernels.linear import FEW_ROWS
from kernels.policy_step import policy_step_kernel
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import Policy, StepInputs
from sol_core.policy.price_rule import PriceRule

__all__ = ["FewRowPolicy"]


class FewRowPolicy:
    """``Policy.logits`` step by step for R rows, with the episode's memory inside.

    The kernel reads the network's own memory: weights that training changes in place and
    prices that are measured anew count from the next step on.
    """

    def __init__(
        self, policy: Policy, network: DamageNetwork, kernel: Callable[..., None], num_rows: int
    ) -> None:
        self._policy, self._kernel = policy, kernel
        self._encoder, self._heads = _encoder(network), _heads(network)
        steps, width = policy.info.episode_steps, network.encoder.project.out_features
        self._memory = np.empty((2, num_rows, steps, width), np.float32)
        self._rule: PriceRule | None = None
        self._prices: Any = None
        self._levels = max(len(levels) for levels in policy.levels)

    @staticmethod
    def make(policy: Policy, num_rows: int) -> FewRowPolicy | None:
        """For a policy and a number of rows that the kernel takes, where it can run; else None."""
        network, on_cpu = policy.network, policy.embedding.device.type == "cpu"
        if num_rows > FEW_ROWS or not on_cpu or not isinstance(network, DamageNetwork):
            return None
        kernel = policy_step_kernel()
        return None if kernel is None else FewRowPolicy(policy, network, kernel, num_rows)

    def logits(self, inputs: StepInputs, step: int) -> Tensor:
        """Logits [R, 3, levels of the longest axis] of an episode's step; steps come in order.

        Args:
            inputs: T = 1.
        """
        if self._policy.rule is not self._rule:
            self._rule = self._policy.rule
            self._prices = _prices(self._rule)
        rows = inputs.rows.shape[0]
        logits = torch.empty(rows, 3, self._levels)
        fed = self._policy.embedding[inputs.tokens].float()
        seen = tuple(as_array(part.flatten(1)) for part in (inputs.rows, fed, inputs.aims))
        self._kernel(
            seen,
            self._encoder,
            self._heads,
            self._prices,
            self._memory,
            step,
            logits.numpy(),
            kernel_threads(),
        )
        return logits


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
