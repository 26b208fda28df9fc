"""A decoder of Llama's kind in plain PyTorch: a judge that imports nothing of this project."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Skipping:
    """Shares that one step keeps: of the cached tokens, and of the MLP's channels."""

    keep: float = 1.0
    input_share: float = 1.0
    inner_share: float = 1.0
    floor: float | None = (
        None  # of a mean page's share: groups read what they need; None: heads rank
    )
    page_size: int = 8


DENSE_STEP = Skipping()


class PlainDecoder:
    def __init__(self, weights, config):
        self.weights = {name: tensor.float() for name, tensor in weights.items()}
        self.layers = config["num_hidden_layers"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps, self.theta = config["rms_norm_eps"], config["rope_parameters"]["rope_theta"]
        self.tied = config["tie_word_embeddings"]

    @torch.no_grad()
    def step(self, token, cache, skipping):
        """Log probabilities of the next token, and the least distance from kept to dropped."""
        gaps = []
        hidden = self.weights["model.embed_tokens.weight"][token]
        for layer in range(self.layers):
            name = f"model.layers.{layer}."
            normed = self._norm(hidden, name + "input_layernorm")
            hidden = hidden + self._attention(normed, name, cache[layer], skipping, gaps)
            normed = self._norm(hidden, name + "post_attention_layernorm")
            hidden = hidden + self._mlp(normed, name + "mlp.", skipping, gaps)
        head = "model.embed_tokens" if self.tied else "lm_head"
        logits = self.weights[head + ".weight"] @ self._norm(hidden, "model.norm")
        return logits.log_softmax(-1), min(gaps, default=math.inf)

    def _norm(self, hidden, name):
        scale = torch.sqrt((hidden * hidden).mean() + self.eps)
        return hidden / scale * self.weights[name + ".weight"]

    def _linear(self, inputs, name):
        return self.weights[name + ".weight"] @ inputs

    def _rotated(self, head, position):
        half = self.size // 2
        angles = [position * self.theta ** (-2 * pair / self.size) for pair in range(half)]
        cosine, sine = torch.tensor(angles).cos(), torch.tensor(angles).sin()
        first, second = head[:half], head[half:]
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine))

    def _attention(self, normed, name, cache, skipping, gaps):
        position, attention = len(cache), name + "self_attn."
        queries, keys, values = (
            self._linear(normed, f"{attention}{one}_proj").view(-1, self.size) for one in "qkv"
        )
        queries = torch.stack([self._rotated(head, position) for head in queries])
        keys = torch.stack([self._rotated(head, position) for head in keys])
        cache.append((keys, values))
        tokens, group = len(cache), self.heads // self.kv_heads
        wanted = _ceil(skipping.keep * tokens)
        mixed = []
        for kv_head in range(self.kv_heads):
            known = torch.stack([entry[0][kv_head] for entry in cache])
            given = torch.stack([entry[1][kv_head] for entry in cache])
            mine = queries[kv_head * group : (kv_head + 1) * group]
            read = [list(range(tokens))] * group
            if skipping.keep < 1:
                scores = _page_scores(mine, known, skipping)
                count = math.ceil(wanted / skipping.page_size)
                if skipping.floor is None:
                    pages = [_best(one, count, gaps) for one in scores]
                else:
                    pages = [_needed(one, skipping.floor, gaps) for one in scores] * group
                read = [
                    [token for token in range(tokens) if token // skipping.page_size in one]
                    for one in pages
                ]
            for query, which in zip(mine, read, strict=True):
                weights = (known[which] @ query / math.sqrt(self.size)).softmax(-1)
                mixed.append(weights @ given[which])
        return self._linear(torch.cat(mixed), attention + "o_proj")

    def _mlp(self, normed, name, skipping, gaps):
        kept = _best(normed.abs(), _ceil(skipping.input_share * len(normed)), gaps)
        inputs = torch.zeros_like(normed)
        inputs[kept] = normed[kept]
        gate, up = (self._linear(inputs, f"{name}{one}_proj") for one in ("gate", "up"))
        inner = gate * torch.sigmoid(gate) * up
        norms = self.weights[name + "down_proj.weight"].norm(dim=0)
        kept = _best((inner * norms).abs(), _ceil(skipping.inner_share * len(inner)), gaps)
        rest = torch.zeros_like(inner)
        rest[kept] = inner[kept]
        return self._linear(rest, name + "down_proj")


def _ceil(count):
    return max(1, math.ceil(count - 1e-9))


def _best(scores, count, gaps):
    """Indices of the highest, ascending; the lowest index where they are alike."""
    values = scores.tolist()
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    if count < len(order):
        gaps.append(values[order[count - 1]] - values[order[count]])
    return sorted(order[:count])


def _needed(shares, floor, gaps):
    """Indices of the pages whose share reaches the floor, and of the heaviest."""
    least = min(floor / len(shares), float(shares.max()))
    gaps += [abs(share - least) for share in shares.tolist() if share != least]
    return [index for index, share in enumerate(shares.tolist()) if share >= least]


def _page_scores(queries, keys, skipping):
    """[heads, P], or [1, P] of a group that chooses together; queries of one KV head's group."""
    if skipping.floor is None:
        pages = keys.split(skipping.page_size)
        bounds = [
            torch.maximum(queries * page.amin(0), queries * page.amax(0)).sum(-1) for page in pages
        ]
        return torch.stack(bounds, -1)
    shares = []
    for query in queries:
        scores = _estimates(query, keys) / math.sqrt(keys.shape[1])
        masses = [page.logsumexp(0) for page in scores.split(skipping.page_size)]
        shares.append(torch.stack(masses).softmax(-1))
    return torch.stack(shares).mean(0, keepdim=True)


def _estimates(query, keys):
    """query · key of each, from 4 bits of a key (minimum and scale in bf16), 8 of the query."""
    lowest = keys.amin(1, keepdim=True).bfloat16().float()
    scale = ((keys.amax(1, keepdim=True) - lowest) / 15).bfloat16().float()
    codes = ((keys - lowest) / scale).round().clamp(0, 15)
    unit = query.abs().max() / 127
    return (codes * scale + lowest) @ (query / unit).round() * unit
