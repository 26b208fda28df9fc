"""A stand-in for the engine: makes token events without a model, at a chosen pace."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import torch

from sol_core import events
from sol_core.actions import DENSE, GRIDS, Action, Spend
from sol_core.config import GenerationConfig
from sol_core.errors import SolError
from sol_core.generation.sequence import page_reads
from sol_core.models.spec import WeightBytes
from tests.sol_core.decoding.test_cost import SMOLLM2


class _FakeModel(SimpleNamespace):
    @property
    def tokenizer(self):
        raise SolError("The stand-in model has no tokenizer.")

    def of_owner(self, owner):
        return self

    def encode(self, text, **options):
        return self.tokenizer(text, **options)


FAKE_MODEL = _FakeModel(
    name="fake-model",
    fingerprint="59bc67149cc45deb72540bafc014dfdc",  # as the shipped policy's model
    dtype_name="float32",
    device_name="cpu",
    context_length=2048,
    notes=(),
    damage={},
    spec=SMOLLM2,
    lm=SimpleNamespace(
        spec=SMOLLM2,
        dtype=torch.bfloat16,
        weight_bytes=WeightBytes.unpacked(SMOLLM2, 2),
        step_times=None,
    ),
)
WORDS = (" the", " sea", " was", " calm", " and", " un", "believ", "ably", " blue", ",", " so")


def fake_load(on_progress):
    on_progress("Loading", 0.5)
    return FAKE_MODEL


@dataclass
class FakeEngine:
    """``generate`` with the engine's signature."""

    tokens: Sequence[str] = WORDS
    step_s: float = 0.0  # of a token
    prefill_s: float = 0.0  # ``should_stop`` ends it early
    repeat: bool = True  # the texts, up to the limit
    error_at: int | None = None  # raise ``SolError`` before this token
    at_once: range = range(0)  # tokens that come without waiting
    pause_at: int | None = None  # wait for ``resume`` before this token, for a minute
    resume: threading.Event = field(default_factory=threading.Event)
    pages: tuple[str, ...] = ()  # texts of the prompt's pages
    calls: list[str] = field(default_factory=list)  # prompts as they were begun
    made_at: list[float] = field(default_factory=list)  # wall-clock seconds of each token

    def __call__(self, model, prompt, config, should_stop):
        self.calls.append(prompt)
        begin = time.monotonic()
        while time.monotonic() - begin < self.prefill_s and not should_stop():
            time.sleep(0.005)
        count = 8 * len(self.pages) or len(prompt.split())
        yield events.PrefillEvent(count, prompt, 12.5, events.StepCost(1e9, 1e9), self.pages)
        count = config.max_new_tokens
        if not self.repeat:
            count = min(count, len(self.tokens))
        made = []
        reason = "length"
        for index in range(count):
            if should_stop():
                reason = "stopped"
                break
            if index == self.pause_at:
                self.resume.wait(60)
            if index == self.error_at:
                raise SolError("the fake engine was told to fail")
            # A steady pace, however long the consumer takes.
            paced = index - sum(index > one for one in self.at_once)
            time.sleep(max(0.0, begin + self.prefill_s + paced * self.step_s - time.monotonic()))
            # After a given token that is not its own it goes on one word further.
            strayed = sum(one != 100 + at for at, one in enumerate(config.given[:index]))
            text = self.tokens[(index + strayed) % len(self.tokens)]
            token = make_token(index, text, config, self.step_s)
            if config.given[index : index + 1] not in ((), (token.token_id,)):
                given = config.given[index]
                token = replace(token, token_id=given, text=f" given{given}")
            made.append(token)
            self.made_at.append(time.time())
            yield made[-1]
        yield _finish(reason, made)


def make_token(index, text, config=None, step_s=0.02):
    """A token event with plausible, reproducible numbers."""
    config = config or GenerationConfig(grid=GRIDS["default"])
    wave = 0.5 + 0.5 * math.sin(index * 0.7)
    is_dense = config.schedule.kind == "dense"
    action = DENSE if is_dense else action_near(config.schedule.budget, wave)
    surprisal = 0.05 + 3 * wave**3
    has_dense = any(row.name == "dense" for row in config.side_rows)
    share = (action.keep_fraction + action.channel_keep_ratio) / 2
    chosen = math.exp(-surprisal)
    top = [events.Alternative(100 + index, text, chosen)] + [
        events.Alternative(rank, f" word{rank}", (1 - chosen) / (rank + 3)) for rank in range(4)
    ]
    top.sort(key=lambda one: -one.probability)
    choice = events.Alternative(99, " dense", 0.5) if index % 7 == 3 else top[0]
    side = tuple(
        events.SideEvent(
            row.name, DENSE, surprisal * 0.9, 1.1, 0.02 * (row.name != "dense"), choice
        )
        for row in config.side_rows
    )
    step_ms, levels = max(step_s * 1000, 0.1), config.grid_in_use.levels()
    return events.TokenEvent(
        index=index, token_id=100 + index, text=text, action=action, surprisal=surprisal,
        entropy=0.4 + wave, top=tuple(top), kl_to_dense=0.04 * wave if has_dense else None,
        side=side, step_ms=step_ms, elapsed_ms=index * step_s * 1000,
        cost=events.StepCost(1e8 * share, 1e8 * share, 5e7, 0, 1e8 * share, 1e8 * share, 5e7, 0),
        dense_cost=events.StepCost(1e8, 1e8, 5e7, 0, 1e8, 1e8, 5e7, 0), cached_tokens=20 + index,
        policy=None if config.schedule.kind != "policy" else bells(levels, action, 5),
        parts_ms=events.PartTimes(*(step_ms * share for share in (0.35, 0.35, 0.2, 0.04, 0.06))),
        page_reads=_page_reads(index, action) if config.page_reads else None,
    )  # fmt: skip


def _page_reads(index, action):
    """Pages of 8 tokens drawn anew for every layer and KV head, the last one always among them."""
    draw, spec = random.Random(index), FAKE_MODEL.spec
    pages = -(-(20 + index) // 8)
    kept = max(1, math.ceil(action.keep_fraction * pages))
    readers = np.zeros((spec.num_layers, pages), np.uint8)
    for layer in range(spec.num_layers):
        for _ in range(spec.num_kv_heads):
            readers[layer, draw.sample(range(pages - 1), kept - 1)] += 1
            readers[layer, -1] += 1
    return page_reads(readers, spec.num_kv_heads)


def bells(levels, action, bits_wide):
    """A bell around the action on each axis, so wide on the bits."""
    parts = []
    for of_axis, value, width in zip(
        levels, action.as_tuple(), (0.15, 0.08, bits_wide), strict=True
    ):
        weights = [math.exp(-(((level - value) / width) ** 2) / 2) for level in of_axis]
        parts.append(tuple(weight / sum(weights) for weight in weights))
    return tuple(parts)


def action_near(budget, wave):
    """An action above or below the budget, by a wave from 0 to 1."""
    spread = 2 * wave - 1
    keep = min(max(budget.keep_fraction + 0.3 * spread, 0.1), 1.0)
    channels = min(max(budget.channel_keep_ratio + 0.2 * spread, 0.4), 1.0)
    bits = min(max(round(budget.bit_width + 4 * spread), 5), 16)
    return Action(round(keep, 1), round(channels * 20) / 20, bits)


def _finish(reason, made):
    count = len(made)
    decode_ms = sum(token.step_ms for token in made)
    spend = None
    if made:
        means = [sum(token.action.as_tuple()[axis] for token in made) / count for axis in range(3)]
        spend = Spend(*means)
    return events.FinishEvent(
        reason=reason, text="".join(token.text for token in made), num_tokens=count, spend=spend,
        prefill_ms=12.5, decode_ms=decode_ms,
        tokens_per_s=1000 * count / decode_ms if decode_ms else 0.0,
        cost=sum((token.cost for token in made), events.StepCost()),
        dense_cost=sum((token.dense_cost for token in made), events.StepCost()),
    )  # fmt: skip
