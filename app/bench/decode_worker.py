"""Contestant of ``bench decode`` in its own process; measures the requests on stdin."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.bench.random_model import random_cache, random_model, shape_from_text
from sol_core.actions import DEFAULT_GRID, DENSE, Action, ActionGrid, Budget, grid_named
from sol_core.budgets.mixes import decoder_mixes
from sol_core.corpus.documents import PAPERS
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import read_prefix
from sol_core.evaluation.measure_tables import joined_texts
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.loading import load_language_model
from sol_core.models.tuning import tune
from sol_core.policy.policy import Policy, load_policy
from sol_core.policy.scheduler import PolicyScheduler

_POLICY_BITS = 8.0


@dataclass(slots=True)
class _Ours:
    """Our decode steps, greedy, one row; the longest context is read once, the others copy it."""

    lm: FrozenLM
    policy: Policy | None
    new_tokens: int
    grid: ActionGrid
    text: list[int]  # longer than any context
    caches: dict[int, KVCache]  # by context
    chosen: list[Action] = field(default_factory=list)  # by the policy

    def measure(self, kind: str, action: tuple[float, float], context: int) -> dict[str, float]:
        """Tokens per second: "fixed" steps of one action, "policy", or its "replay"; "read" is a
        prefill before dense steps."""
        if kind == "read":
            read = self._read(context)
            return {"prefill_tokens_per_s": read, "tokens_per_s": self._fixed(DENSE, context)}
        if kind == "fixed":
            return {"tokens_per_s": self._fixed(Action(*action), context)}
        if kind == "policy" or not self.chosen:
            rate, self.chosen = self._through_loop(self._scheduler(action), context)
            if kind == "policy":
                return {"tokens_per_s": rate}
        return {"tokens_per_s": self._through_loop(PlannedRows([self.chosen]), context)[0]}

    def _read(self, context: int) -> float:
        """Rate of reading a text to its next token, as a generation begins."""
        start = time.perf_counter()
        cache = read_prefix(self.lm, self.text[: context - 1], ActionGrid().page_size).cache
        last = torch.tensor(self.text[context - 1 : context])
        self.lm.decode_step(last, cache, DENSE, mechanisms=self.grid.mechanisms).logits.argmax()
        return context / (time.perf_counter() - start)

    def _fixed(self, action: Action, context: int) -> float:
        lm, cache, how = self.lm, self._cached(context), self.grid.mechanisms
        # The first step brings page bounds up to date: once per generation, not per token.
        token = torch.tensor(self.text[context : context + 1])
        token = lm.decode_step(token, cache, action, mechanisms=how).logits.argmax(-1)
        start = time.perf_counter()
        for _ in range(self.new_tokens):
            token = lm.decode_step(token, cache, action, mechanisms=how).logits.argmax(-1)
        return self.new_tokens / (time.perf_counter() - start)

    def _through_loop(self, scheduler: BatchScheduler, context: int) -> tuple[float, list[Action]]:
        """Rate of the decode loop after its first step; all actions."""
        options = DecodeOptions(self.new_tokens + 1, self.grid.mechanisms)
        first = self.text[context : context + 1]
        cache = self._cached(context).branch(1, options.max_steps)
        steps = decode(self.lm, cache, first, scheduler, _greedy, options)
        chosen = [next(steps).actions[0]]
        start = time.perf_counter()
        chosen += [step.actions[0] for step in steps]
        return self.new_tokens / (time.perf_counter() - start), chosen

    def _scheduler(self, budget: tuple[float, float]) -> BatchScheduler:
        """Make it by a share of the bytes, the first number, where the grid is the default one."""
        assert self.policy is not None
        if self.grid != grid_named(DEFAULT_GRID):
            return PolicyScheduler(self.policy, [Budget(*budget, _POLICY_BITS)])
        mixes = decoder_mixes(self.lm, self.grid)
        return PolicyScheduler(self.policy, [Budget.share(budget[0])], mixes=mixes)

    def _cached(self, context: int) -> KVCache:
        self.caches[context].truncate(context)
        return self.caches[context]


def _greedy(step: DecodeStep) -> list[int]:
    return [int(step.output.logits.argmax())]


def _measure_transformers(
    model: Any, cache: str | None, text: list[int], new_tokens: int
) -> dict[str, float]:
    """``generate`` to the first token, and with more, from which that one's time is taken."""

    def run(count: int) -> float:
        start = time.perf_counter()
        model.generate(
            torch.tensor([text]),
            attention_mask=torch.ones(1, len(text), dtype=torch.long),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            cache_implementation=cache,
        )
        return time.perf_counter() - start

    many, first = run(new_tokens + 1), run(1)
    return {"prefill_tokens_per_s": len(text) / first, "tokens_per_s": new_tokens / (many - first)}


def _serve_ours(given: dict[str, Any]) -> None:
    grid, new_tokens, policy = grid_named(given["grid"]), given["new_tokens"], None
    longest = max(given["contexts"])
    if given["shape"]:
        shape, storage = shape_from_text(given["shape"]), given["storage"]
        lm = random_model(shape, longest + new_tokens + 2, storage=storage)
    else:
        folder, data_dir = given["model_folder"], Path(given["data_dir"])
        model = load_language_model(folder, data_dir=data_dir, dtype=given["dtype"], device="cpu")
        tune(model, data_dir, lambda: None)
        lm, storage = model.lm, "q4" if model.lm.steps_are_quantised else model.dtype_name
        if given["policy_folder"]:
            policy = load_policy(Path(given["policy_folder"]), model, grid=grid)
    room = lm.spec.max_positions - new_tokens - 1
    contexts = list(dict.fromkeys(min(context, room) for context in given["contexts"]))
    longest = max(contexts)
    if given["shape"]:
        text, read = [1] * (longest + 1), random_cache(lm, longest)
    else:
        text = next(joined_texts(model, PAPERS, data_dir, longest + 1))
        read = read_prefix(lm, text[:longest], ActionGrid().page_size).cache
    caches = {context: read.branch(1, new_tokens + 1, [context]) for context in contexts}
    ours = _Ours(lm, policy, new_tokens, grid, text, caches)
    ours.measure("fixed", (1.0, 1.0), contexts[0])  # warm up: caches, lazy initialisation
    mixes = [_mix(lm, grid, share, at) for at in contexts for share in given["shares"]]
    _reply({"mixes": mixes, "storage": storage, "tuning": lm.tuning, "text": text})
    for line in sys.stdin:
        kind, action, at = json.loads(line)
        _reply(ours.measure(str(kind), tuple(action), int(at)))


def _mix(lm: FrozenLM, grid: ActionGrid, share: float, context: int) -> dict[str, Any]:
    """The static mix at a share, as one action; the lowest mix where the share is below all."""
    mixes = decoder_mixes(lm, grid)
    mean = mixes.mean(share, context)
    dense, read = (mixes.costs.decode_step(of, context).bytes_read for of in (DENSE, mean))
    return {
        "context": context,
        "share_asked": share,
        "share": read / dense,
        "keep_fraction": mean.keep_fraction,
        "channel_keep_ratio": mean.channel_keep_ratio,
        "dense_bytes": dense,
    }


def _serve_transformers(side: str, given: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    folder, dtype, new_tokens = (given[name] for name in ("model_folder", "dtype", "new_tokens"))
    text = json.loads(sys.stdin.readline())
    usual = text[: given["context"]]
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    cache = None
    if (
        side == "transformers_compiled"
    ):  # as transformers' documentation does it: a cache of fixed size
        cache = "static"
        theirs.forward = torch.compile(theirs.forward, fullgraph=True)
    # The second run compiles what the first one found to differ from run to run.
    for _ in range(2 if cache else 1):
        _measure_transformers(theirs, cache, usual, new_tokens)
    _reply({"dtype": dtype})
    for line in sys.stdin:
        _, _, at = json.loads(line)
        _reply(_measure_transformers(theirs, cache, text[:at], new_tokens))


def _reply(record: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its workers
    options = json.loads(sys.argv[2])
    if sys.argv[1] == "ours":
        _serve_ours(options)
    else:
        _serve_transformers(sys.argv[1], options)
