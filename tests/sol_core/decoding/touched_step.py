"""A decode step of one row in plain torch that marks every byte it reads of weights and cache."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.channel_pruning import keep_heaviest_channels, keep_largest_channels
from kernels.key_codes import encode_keys, estimated_scores, page_log_mass
from kernels.page_scorers import page_bounds
from kernels.quantised_weights import GgufBlocks
from sol_core.actions import Action, ActionGrid, ceil_fraction
from sol_core.model_tables.tables import shipped_floors
from sol_core.models import FrozenLM
from sol_core.models.rope import inverse_frequencies, rotary_angles

BLOCK, HEADER = 32, 4  # channels that share a scale and a minimum; bytes of those two


def _of_layer(action, index):
    """The action of one layer."""
    lists = [values if isinstance(values, tuple) else None for values in action.values()]
    pairs = zip(lists, action.as_tuple(), strict=True)
    return Action.of([value if some is None else some[index] for some, value in pairs])


@dataclass
class TouchedStep:
    """Reads of one step; ``nbytes`` is their sum."""

    lm: FrozenLM
    blocks: dict[str, GgufBlocks]
    keys: Tensor
    values: Tensor
    grid: ActionGrid
    nbytes: int = 0
    tokens_read: list[int] = field(default_factory=list)

    def run(self, token, action):
        """Return the logits [V]."""
        lm, spec = self.lm, self.lm.spec
        position = torch.tensor([self.keys.shape[2]])
        rope = spec.ropes[0]
        frequencies = inverse_frequencies(rope, spec.head_size, lm.device)
        self.angles = rotary_angles(frequencies, position, rope.amplitude)
        hidden = lm.weights.embedding[token].float()
        for index in range(spec.num_layers):
            own = _of_layer(action, index)
            hidden = hidden + self._attention(index, hidden, own)
            hidden = hidden + self._mlp(index, hidden, own)
        return self._product("model.embed_tokens.weight", self._normed(hidden, "final"), None)

    def _normed(self, hidden, which, index=0):
        layer = self.lm.weights.layers[index]
        weights = {
            "attention": layer.attention_norm,
            "mlp": layer.mlp_norm,
            "final": self.lm.weights.final_norm,
        }[which]
        self.nbytes += weights.nbytes
        variance = hidden.square().mean()
        return hidden * torch.rsqrt(variance + self.lm.spec.norm_eps) * weights

    def _product(self, name, inputs, weight):
        """inputs [in] → [out]; of a block's numbers those of channels that are not zero."""
        blocks = self.blocks[name]
        outputs, num_blocks, _ = blocks.data.shape
        kept = int((inputs != 0).sum())
        self.nbytes += outputs * (num_blocks * HEADER + kept * blocks.bits // 8)
        matrix = self.lm.weights.embedding.t() if weight is None else weight
        return inputs @ matrix

    def _attention(self, index, hidden, action):
        spec, prefix = self.lm.spec, f"model.layers.{index}.self_attn."
        layer = self.lm.weights.layers[index]
        normed, matrix = self._normed(hidden, "attention", index), layer.query_key_value.weight
        sizes = [spec.query_width, spec.kv_width, spec.kv_width]
        parts = [
            self._product(f"{prefix}{name}_proj.weight", normed, columns)
            for name, columns in zip("qkv", matrix.split(sizes, 1), strict=True)
        ]
        query, key, value = (part.view(-1, spec.head_size) for part in parts)
        query, key = (self._rotated(part) for part in (query, key))
        keys = torch.cat((self.keys[index], key[:, None]), 1)  # [Hkv, S, D]
        values = torch.cat((self.values[index], value[:, None]), 1)
        mixed = self._attend(query * spec.attention_scale, keys, values, action)
        return self._product(f"{prefix}o_proj.weight", mixed, layer.attention_output.weight)

    def _rotated(self, heads):
        first, second = heads.chunk(2, -1)
        cosine, sine = self.angles
        return heads * cosine[0] + torch.cat((-second, first), -1) * sine[0]

    def _attend(self, query, keys, values, action):
        spec, size = self.lm.spec, self.grid.page_size
        groups, length = spec.num_heads // spec.num_kv_heads, keys.shape[1]
        pages = -(-length // size)
        budget = -(-ceil_fraction(action.keep_fraction, length) // size)
        read = torch.ones(spec.num_heads, pages, dtype=torch.bool)
        if self.grid.page_scorer == "quest" and budget < pages:
            read = self._best(query, keys, budget)
        elif self.grid.page_scorer == "int4" and action.keep_fraction < 1:
            read = self._needed(
                query, keys, shipped_floors().floors((action.keep_fraction,), length)[0]
            )
        tokens = read.repeat_interleave(size, 1)[:, :length]
        together = tokens.view(-1, groups, length).any(1).sum()  # a group's heads read a page once
        self.tokens_read.append(int(together))
        self.nbytes += int(together) * 2 * spec.head_size * keys.element_size()
        scores = torch.einsum("hd,hsd->hs", query, keys.repeat_interleave(groups, 0))
        weights = scores.masked_fill(~tokens, -torch.inf).softmax(-1)
        return torch.einsum("hs,hsd->hd", weights, values.repeat_interleave(groups, 0)).flatten()

    def _best(self, query, keys, budget):
        """Pages that each head reads [H, P]; the bounds that choose them are read."""
        spec, size = self.lm.spec, self.grid.page_size
        groups, length = spec.num_heads // spec.num_kv_heads, keys.shape[1]
        low, high = page_bounds(keys[None], None, size)
        self.nbytes += low.nbytes + high.nbytes
        low, high = (bound[0].repeat_interleave(groups, 0) for bound in (low, high))
        lines = query[:, None]
        scores = (lines.clamp(min=0) * high + lines.clamp(max=0) * low).sum(-1)
        best = scores.topk(budget, -1).indices
        return torch.zeros(spec.num_heads, -(-length // size)).scatter(1, best, 1.0) > 0

    def _needed(self, query, keys, floor):
        """Pages that each head's group reads [H, P]; the 4-bit keys that choose them are read."""
        spec, length = self.lm.spec, keys.shape[1]
        groups = spec.num_heads // spec.num_kv_heads
        padded = torch.nn.functional.pad(keys, (0, 0, 0, -length % 8))
        codes, scales = encode_keys(padded)
        self.nbytes += (codes[0].nbytes + scales[0].nbytes) * spec.num_kv_heads
        estimated = estimated_scores(query.view(-1, groups, spec.head_size), codes, scales)
        mass = page_log_mass(estimated[..., :length], None, self.grid.page_size).softmax(-1)
        shares = mass.mean(1)
        least = (shares.amax(-1, keepdim=True)).clamp(max=floor / shares.shape[-1])
        return (shares >= least).repeat_interleave(groups, 0)

    def _mlp(self, index, hidden, action):
        spec, prefix = self.lm.spec, f"model.layers.{index}.mlp."
        layer = self.lm.weights.layers[index]
        normed = self._normed(hidden, "mlp", index)
        shares = self.grid.mechanisms.mlp_fractions(action.channel_keep_ratio)
        kept = torch.tensor([ceil_fraction(shares[0], spec.hidden_size)])
        normed = keep_largest_channels(normed[None], kept)[0]
        columns = layer.gate_up.weight.split(spec.intermediate_size, 1)
        gate, up = (
            self._product(f"{prefix}{name}_proj.weight", normed, some)
            for name, some in zip(("gate", "up"), columns, strict=True)
        )
        inner = torch.nn.functional.silu(gate) * up
        if shares[1] < 1:
            self.nbytes += layer.down_norms.nbytes
            kept = torch.tensor([ceil_fraction(shares[1], spec.intermediate_size)])
            inner = keep_heaviest_channels(inner[None], layer.down_norms, kept)[0]
        return self._product(f"{prefix}down_proj.weight", inner, layer.down.weight)
