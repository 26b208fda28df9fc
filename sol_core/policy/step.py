"""A policy's step: inputs as one row of numbers; few rows run in a compiled kernel on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels.cpu import as_array
from kernels.decode_layer import DTYPES
from kernels.linear import FEW_ROWS
from kernels.policy_step import KERNEL_AXES, ByteTerms, policy_step_kernel
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.policy.info import InputLayout
from sol_core.policy.network import DamageNetwork, StateEncoder
from sol_core.policy.policy import Policy, StepInputs, fits_float16
from sol_core.policy.prices import PriceRule

if TYPE_CHECKING:
    from kernels.policy_step.cpu import DamageHeads, Encoder

_MAX_NATS = 15.0  # largest surprisal
_MAX_KEPT = 2.0**15  # largest state; fp16 ends just below 2**16


def input_parts(observation: StepObservation, layout: InputLayout) -> list[Tensor]:
    """Return the parts [R, …] of a row: states, concentration, entropy, surprisal, context."""
    tokens, has_state = observation.tokens, float(observation.hidden is not None)
    known = [[math.log2(cached + 1), has_state] for cached in observation.cached_tokens]
    parts = (
        (observation.hidden, layout.hidden_size),
        (observation.mid_hidden, 2 * layout.hidden_size),
        (observation.concentration, layout.num_layers),
        (observation.entropy, 1),
        (observation.surprisal, 1),
        (torch.tensor(known, device=tokens.device), 2),
    )
    return [
        torch.zeros(len(tokens), width, device=tokens.device)
        if values is None or width == 0
        else values.reshape(len(tokens), width)
        for values, width in parts
    ]


def input_rows(
    observation: StepObservation, previous_action: Tensor, layout: InputLayout
) -> Tensor:
    """Return one step's rows: [R, layout.width] fp32."""
    *parts, surprisal, known = input_parts(observation, layout)
    bounded = surprisal.clamp(max=_MAX_NATS)
    return torch.cat((*parts, bounded, known, previous_action.to(known.device)), dim=1)


def rows_in_float16(rows: Tensor, layout: InputLayout) -> Tensor:
    """Convert rows to fp16; larger states (Gemma 3: 100,000) are halved, as networks norm them."""
    states, rest = layout.split(rows)
    largest = states.abs().amax(-1, keepdim=True)
    halvings = (largest / _MAX_KEPT).clamp(min=1.0).log2().ceil()
    return torch.cat(((states / halvings.exp2()).flatten(-2), rest), -1).half()


class FewRowPolicy:
    """Runs ``Policy.logits`` step by step for R rows; keeps the episode's memory."""

    def __init__(
        self, policy: Policy, network: DamageNetwork, kernel: Callable[..., None], num_rows: int
    ) -> None:
        self._policy, self._kernel, self._source = policy, kernel, network
        self._embedding = as_array(policy.embedding)
        self._parameters = list(network.parameters())
        self._version = -1
        self._network: tuple[Any, ...] = ()
        self._arrays: list[Any] = []  # keeps the arrays behind the network's table alive
        steps, width = policy.info.episode_steps, policy.info.config.width
        self._memory = np.empty((2, num_rows, steps, width), np.float32)
        self._layout, self._width = policy.info.layout, policy.info.layout.width
        self._rule: PriceRule | None = None
        self._no_budget = torch.empty(num_rows, 1, 0)
        self._levels = max(len(levels) for levels in policy.levels)

    @staticmethod
    def make(policy: Policy, num_rows: int) -> FewRowPolicy | None:
        """Make it for a policy and a number of rows; None if the kernel does not support them."""
        network, embedding = policy.network, policy.embedding
        fits = embedding.device.type == "cpu" and embedding.dtype in DTYPES
        if num_rows > FEW_ROWS or not fits or not isinstance(network, DamageNetwork):
            return None
        kernel = policy_step_kernel()
        return None if kernel is None else FewRowPolicy(policy, network, kernel, num_rows)

    def step(
        self,
        observation: StepObservation,
        step: int,  # in the episode; must come in order
        aims: Tensor,  # [R, 3] float32, target spends, fractions of dense
        previous: Tensor,  # [R, 3] float32, the previous step's spends
        terms: ByteTerms,  # for a price on bytes
    ) -> tuple[StepInputs, Tensor, Tensor]:
        """Return the step's inputs (T = 1), logits and most probable levels."""
        num_rows = observation.tokens.shape[0]
        seen = tuple(part.numpy() for part in input_parts(observation, self._layout))
        if step == 0:
            self._refresh_arrays()
        row = np.empty((num_rows, 1, self._width), np.float32)
        logits = np.empty((num_rows, KERNEL_AXES, self._levels), np.float32)
        choices = np.empty((num_rows, KERNEL_AXES), np.int64)
        self._kernel(
            seen,
            (observation.tokens.numpy(), self._embedding),
            (aims.numpy(), previous.numpy()),
            self._network,
            self._memory,
            step,
            terms,
            (row[:, 0], logits, choices),
        )
        tokens = observation.tokens[:, None]
        inputs = StepInputs(torch.from_numpy(row), tokens, self._no_budget, aims[:, None])
        return inputs, torch.from_numpy(logits), torch.from_numpy(choices)

    def _refresh_arrays(self) -> None:
        """Copy the current encoder, heads and prices."""
        from kernels.policy_step.cpu import Prices

        version = sum(parameter._version for parameter in self._parameters)
        if version != self._version or self._policy.rule is not self._rule:
            self._version, self._rule = version, self._policy.rule
            encoder, self._arrays = _encoder(self._source)
            self._network = encoder, _heads(self._source), Prices(*self._rule.arrays())


def _encoder(network: DamageNetwork) -> tuple[Encoder, list[Any]]:
    """Return the encoder, and the arrays whose addresses it holds."""
    from kernels.cpu.addresses import table_of
    from kernels.policy_step.cpu import Encoder

    encoder = network.encoder
    assert isinstance(encoder, StateEncoder)
    modules = (
        encoder.project,
        encoder.attention_norm,
        encoder.query_key_value,
        encoder.attention_output,
        encoder.mlp_norm,
        encoder.mlp_in,
        encoder.mlp_out,
        encoder.final_norm,
    )
    # In float16, as in a policy's folder, if that is exact; half the bytes to read.
    maps = [module for module in modules if isinstance(module, nn.Linear)]
    narrow = all(fits_float16(module.weight) for module in maps)
    arrays = [as_array(encoder.rest_mean), as_array(encoder.rest_scale)]
    for module in modules:
        weight = module.weight
        if narrow and module in maps:
            weight = weight.detach().half()
        arrays += [as_array(weight), as_array(module.bias)]
    number = as_array(torch.empty(1, dtype=torch.float16 if narrow else torch.float32))
    return Encoder(table_of(arrays), number, encoder.num_heads), arrays


def _heads(network: DamageNetwork) -> DamageHeads:
    from kernels.policy_step.cpu import DamageHeads

    return DamageHeads(
        tuple((as_array(head.weight), as_array(head.bias)) for head in network.linears),
        tuple(as_array(base) for base in network.base),
        tuple(as_array(scaled) for scaled in network.scaled_levels),
        as_array(network.log_sharpness),
    )
