"""``bench decode`` on a card: our steps, dense and at shares of the bytes, and transformers' in
CUDA graphs, each after several contexts; models of random weights, in 16 bits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from app.bench.card_report import tokens_per_s
from app.bench.random_model import MODELS, ModelShape, random_model
from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.budgets.mixes import decoder_mixes
from sol_core.models.card.self_test import checked_card
from sol_core.models.card.small_model import Widths
from sol_core.models.devices import use_device
from sol_core.progress import Progress

SHAPES = (MODELS["SmolLM2-135M"], MODELS["Llama-3.2-1B"])
SHARES = (0.8, 0.65, 0.5)  # of the dense step's bytes
CONTEXTS = (512, 2048, 7168)
_NEW_TOKENS = 64
_ROOM = 128  # for our steps, warm-up included, and for theirs


def bench_on_card(
    device: torch.device,
    dtype: torch.dtype,
    grid: ActionGrid,
    report: Progress,
    *,
    data_dir: Path,  # where the self-test's verdicts are kept
    shapes: Sequence[ModelShape] = SHAPES,
    contexts: Sequence[int] = CONTEXTS,
) -> dict[str, Any]:
    """Tokens per second of each; JSON-ready. ``send_back`` is all of it in a line."""
    use_device(device)
    rows, is_card = list[dict[str, Any]](), device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_card else "no card"
    for number, shape in enumerate(shapes):
        report(f"measuring {shape.name}", number / len(shapes))
        made = random_model(shape, max(contexts) + _ROOM, device=str(device), dtype=dtype)
        if is_card:
            checked_card(device, dtype, Widths.of_model(made), data_dir, report).apply()
        mixes = decoder_mixes(made, grid)
        for context in contexts:
            rates = {"dense": tokens_per_s(made, DENSE, grid.mechanisms, context)}
            for share in SHARES:
                mean = mixes.mean(share, context)
                action = Action(mean.keep_fraction, mean.channel_keep_ratio)
                rate = tokens_per_s(made, action, grid.mechanisms, context)
                rates[f"{share:.0%}"] = rate
            rows.append({"model": shape.name, "context": context, **rates})
        del made, mixes  # their memory goes before theirs is taken
        for row in rows[-len(contexts) :]:
            row["transformers"] = _their_rate(shape, row["context"], device, dtype)
    told = (
        f"{row['model']} {row['context']}: "
        + ", ".join(f"{key} {rate:.1f}" for key, rate in row.items() if isinstance(rate, float))
        for row in rows
    )
    line = f"{name}, torch {torch.__version__}, tokens/s | {' | '.join(told)}"
    return {"card": name, "dtype": str(dtype), "tokens_per_s": rows, "send_back": line}


def _their_rate(shape: ModelShape, context: int, device: torch.device, dtype: torch.dtype) -> float:
    """Rate of ``generate`` with a cache of fixed size, which transformers runs in CUDA graphs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=context + _ROOM,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config).eval().to(device=device, dtype=dtype)
    tokens = torch.arange(context, device=device)[None] % shape.vocab_size

    def run(count: int) -> float:
        began = time.perf_counter()
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            cache_implementation="static",
        )
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    for count in (_NEW_TOKENS + 1, 1):  # both lengths are compiled
        run(count)
    many, first = run(_NEW_TOKENS + 1), run(1)
    return _NEW_TOKENS / (many - first)
