"""The policy networks, whose input per step is one row of numbers (``step.py``).

``DamageNetwork`` (ours) predicts each level's KL to the dense step, by axis: the step's
sensitivity, and how steeply it falls with the level. Damage is nearly additive over the axes
(docs/results.md), so one head per axis suffices. ``JointNetwork`` is that of the authors of SOL
(arXiv:2605.10875).
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sol_core.actions import AXES, ActionGrid
from sol_core.models.signals import Observe
from sol_core.policy.info import InputLayout, PolicyConfig


def observed_signals(layout: InputLayout) -> Observe:
    """Return the observations that a network with these inputs needs."""
    return Observe.CONCENTRATION if layout.num_layers else Observe.STATES


def level_values(grid: ActionGrid) -> list[Tensor]:
    """Return each axis's levels as fractions of dense: [levels] fp32."""
    return [
        torch.tensor(levels, dtype=torch.float32) / axis.dense
        for axis, levels in zip(AXES, grid.levels(), strict=True)
    ]


class CausalEncoder(nn.Module):
    """Projects the inputs and applies one causal pre-norm transformer block over the steps."""

    def __init__(self, num_inputs: int, mlp_ratio: int, config: PolicyConfig) -> None:
        super().__init__()
        self.num_heads, width = config.num_heads, config.width
        self.project = nn.Linear(num_inputs, width)
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, mlp_ratio * width)
        self.mlp_out = nn.Linear(mlp_ratio * width, width)
        self.final_norm = nn.LayerNorm(width)
        self.dropout = config.dropout

    def mix(self, encoded: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the block to [N, T, width]; return the result and the extended cache."""
        mixed, cache = self._attend(self.attention_norm(encoded), cache)
        encoded = encoded + self._drop(mixed)
        inner = F.gelu(self.mlp_in(self.mlp_norm(encoded)))
        return self.final_norm(encoded + self._drop(self.mlp_out(inner))), cache

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout) if self.training else values

    def _attend(self, normed: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        rows, steps, width = normed.shape
        shape = (rows, steps, 3, self.num_heads, width // self.num_heads)
        turned = self.query_key_value(normed).view(shape).permute(2, 0, 3, 1, 4)
        query, keys, values = turned.unbind()
        seen = turned[1:]
        if cache is not None:
            seen = torch.cat((cache, seen), 3)
            keys, values = seen.unbind()
        mask = None
        if steps > 1:
            total = keys.shape[2]
            mask = torch.ones(steps, total, dtype=torch.bool, device=normed.device)
            mask = mask.tril(total - steps)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.attention_output(mixed.transpose(1, 2).flatten(2)), seen


class StateEncoder(CausalEncoder):
    """Encodes all observations; without learned positions."""

    rest_mean: Tensor
    rest_scale: Tensor

    def __init__(self, layout: InputLayout, config: PolicyConfig) -> None:
        rest = layout.width - 3 * layout.hidden_size
        super().__init__(4 * layout.hidden_size + rest, 2, config)
        self.layout = layout
        self.register_buffer("rest_mean", torch.zeros(rest))
        self.register_buffer("rest_scale", torch.ones(rest))
        nn.init.zeros_(self.attention_output.weight)

    def forward(
        self, rows: Tensor, embedding: Tensor, cache: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode T more steps of N episodes; rows: [N, T, layout.width]."""
        states, rest = self.layout.split(rows.float())
        size = (self.layout.hidden_size,)
        # The states' scales differ by 100, so each is normalised separately.
        hidden, first, second = F.layer_norm(states, size).unbind(-2)
        fed = F.layer_norm(embedding.float(), size)
        scaled = (rest - self.rest_mean) / self.rest_scale
        inputs = torch.cat((hidden, fed, first, second, scaled.clamp(-8, 8)), -1)
        return self.mix(F.gelu(self.project(self._drop(inputs))), cache)

    @torch.no_grad()
    def fit_scales(self, rows: Tensor) -> None:
        """Fit mean and deviation of the non-state inputs to a sample [..., width]."""
        rest = self.layout.split(rows.float().flatten(0, -2))[1]
        self.rest_mean.copy_(rest.mean(0))
        self.rest_scale.copy_(rest.std(0).clamp(min=1e-3))


class PaperEncoder(CausalEncoder):
    """Encodes the paper's observation: last hidden state, embedding, previous action, budget."""

    def __init__(self, layout: InputLayout, config: PolicyConfig, num_steps: int) -> None:
        # Previous action, progress, a flag, targets and deviations.
        self.num_numbers = len(AXES) + 2 + 2 * len(AXES)
        super().__init__(2 * layout.hidden_size + self.num_numbers, 4, config)
        self.layout = layout
        self.positions = nn.Embedding(num_steps, config.width)

    def forward(
        self, rows: Tensor, embedding: Tensor, cache: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode T more steps of N episodes; rows: [N, T, layout.width + 2 + 2 · axes]."""
        states, rest = self.layout.split(rows.float())
        size = (self.layout.hidden_size,)
        hidden, fed = F.layer_norm(states[..., 0, :], size), F.layer_norm(embedding.float(), size)
        inputs = torch.cat((hidden, fed, rest[..., -self.num_numbers :]), -1)
        first = 0 if cache is None else cache.shape[3]
        steps = torch.arange(first, first + rows.shape[1], device=rows.device)
        return self.mix(self.project(self._drop(inputs)) + self.positions(steps), cache)


class DamageNetwork(nn.Module):
    """Predicts log KL per axis and level: ``base[l] + sensitivity + slope · u[l]``, u in ±½."""

    padded: Tensor

    def __init__(
        self, layout: InputLayout, grid: ActionGrid, config: PolicyConfig, num_steps: int = 16
    ) -> None:
        super().__init__()
        self.encoder = StateEncoder(layout, config)
        self.linears = tuple(nn.Linear(config.width, 2) for _ in AXES)
        self.heads = nn.ModuleList(self.linears)
        bases = []
        names = self._scaled_names = tuple(f"place_{number}" for number, _ in enumerate(AXES))
        for name, axis, values in zip(names, AXES, level_values(grid), strict=True):
            span = float(values[-1] - values[0]) or 1.0
            rise = (values - values[0]) / span
            start, folds = axis.start
            self.register_buffer(name, rise - 0.5)
            bases.append(nn.Parameter(math.log(start) - folds * rise))
        self.base = nn.ParameterList(bases)
        self._bases = tuple(bases)  # same parameters; iterating a ParameterList takes 30 µs
        self.floor = nn.Parameter(torch.tensor(-5.0))  # log KL of a dense step after others
        self.entropy_head = nn.Linear(config.width, 1)  # auxiliary: the dense step's entropy
        self.log_sharpness = nn.Parameter(torch.full((len(bases),), math.log(20.0)))
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        sizes = [len(base) for base in bases]
        rows = [
            [end - size + min(level, size - 1) for level in range(max(sizes))]
            for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)
        ]
        # Index of each level in the bases, then the scaled levels; a short axis repeats its last.
        index = torch.tensor(rows).flatten()
        self.register_buffer("padded", torch.cat((index, index + sum(sizes))), persistent=False)

    def forward(
        self, rows: Tensor, embedding: Tensor, cache: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Predict T steps of N episodes; see StateEncoder for the arguments."""
        encoded, cache = self.encoder(rows, embedding, cache)
        padded = self.log_damages(self.shapes(encoded))
        damages = [padded[..., axis, : len(base)] for axis, base in enumerate(self.base)]
        return damages, self.entropy_head(encoded)[..., 0], cache

    @property
    def scaled_levels(self) -> list[Tensor]:
        """Return each axis's levels, scaled to ±½."""
        return [getattr(self, name) for name in self._scaled_names]

    def shapes(self, encoded: Tensor) -> Tensor:
        """Map encoded steps [..., width] to sensitivity and slope [..., axes, 2]."""
        weight = torch.cat([head.weight for head in self.linears])
        bias = torch.cat([head.bias for head in self.linears])
        return F.linear(encoded, weight, bias).view(*encoded.shape[:-1], -1, 2)

    def log_damages(self, shapes: Tensor) -> Tensor:
        """Map sensitivity and slope [..., axes, 2] to log damage [..., axes, most levels]."""
        sensitivity, slope = shapes[..., None].unbind(-2)
        # Not cached, because training changes the parameters.
        curves = torch.cat([*self._bases, *self.scaled_levels])
        base, scaled = curves.index_select(0, self.padded).view(2, len(self._bases), -1).unbind()
        return torch.addcmul(base + sensitivity, slope, scaled)

    def total_damage(self, log_damages: list[Tensor], levels: Tensor) -> Tensor:
        """Return the predicted KL of levels [N, T, axes] int64: [N, T], nats."""
        total = self.floor.exp()
        for axis, log_damage in enumerate(log_damages):
            total = total + log_damage.gather(-1, levels[..., axis : axis + 1])[..., 0].exp()
        return total


class JointNetwork(nn.Module):
    """The authors' network: logits over all joint actions, plus a budget MLP (axes → 32 → A)."""

    def __init__(
        self, layout: InputLayout, grid: ActionGrid, config: PolicyConfig, num_steps: int
    ) -> None:
        super().__init__()
        num_actions = math.prod(len(levels) for levels in grid.levels())
        self.encoder = PaperEncoder(layout, config, num_steps)
        self.head = nn.Linear(config.width, num_actions)
        self.budget = nn.Sequential(nn.Linear(len(AXES), 32), nn.GELU(), nn.Linear(32, num_actions))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, rows: Tensor, embedding: Tensor, budget: Tensor, cache: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits [N, T, A]; the last axis varies fastest."""
        encoded, cache = self.encoder(torch.cat((rows, budget), -1), embedding, cache)
        logits: Tensor = self.head(encoded) + self.budget(budget[..., 2 : 2 + len(AXES)])
        return logits, cache


def build_network(
    layout: InputLayout, grid: ActionGrid, config: PolicyConfig, num_steps: int = 16
) -> DamageNetwork | JointNetwork:
    """Make a network with weights from torch's global random state."""
    kind = JointNetwork if config.network == "joint" else DamageNetwork
    return kind(layout, grid, config, num_steps)
