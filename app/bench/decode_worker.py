"""One contestant of ``bench decode`` in its own process; measures the requests on stdin."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.bench.random_model import random_cache, random_model, shape_from_text
from sol_core.actions import DEFAULT_GRID, DENSE, Action, ActionGrid, Budget, grid_named
from sol_core.budgets.mixes import mixes_of
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import read_prefix
from sol_core.files.places import default_data_dir
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.loading import load_language_model
from sol_core.models.tuning import tune
from sol_core.policy import Policy, PolicyScheduler, load_policy

_POLICY_BITS = 8.0


@dataclass(slots=True)
class _Ours:
    """Our decode steps, greedy, one row; the longest context is read once, the others copy it."""

    lm: FrozenLM
    policy: Policy | None
    new_tokens: int
    grid: ActionGrid
    caches: dict[int, KVCache]  # by context
    chosen: list[Action] = field(default_factory=list)  # by the policy

    def measure(self, kind: str, action: tuple[float, float], context: int) -> float:
        """Tokens per second: "fixed" steps of one action, "policy", or its "replay"."""
        if kind == "fixed":
            return self._fixed(Action(*action), context)
        if kind == "policy" or not self.chosen:
            rate, self.chosen = self._through_loop(self._scheduler(action), context)
            if kind == "policy":
                return rate
        return self._through_loop(PlannedRows([self.chosen]), context)[0]

    def _fixed(self, action: Action, context: int) -> float:
        lm, cache, how = self.lm, self._cached(context), self.grid.mechanisms
        # The first step brings page bounds up to date: once per generation, not per token.
        token = lm.decode_step(torch.tensor([1]), cache, action, mechanisms=how).logits.argmax(-1)
        start = time.perf_counter()
        for _ in range(self.new_tokens):
            token = lm.decode_step(token, cache, action, mechanisms=how).logits.argmax(-1)
        return self.new_tokens / (time.perf_counter() - start)

    def _through_loop(self, scheduler: BatchScheduler, context: int) -> tuple[float, list[Action]]:
        """Rate of the decode loop after its first step, which copies the prefix; all actions."""
        options = DecodeOptions(self.new_tokens + 1, self.grid.mechanisms)
        steps = decode(self.lm, self._cached(context), [1], scheduler, _greedy, options)
        chosen = [next(steps).actions[0]]
        start = time.perf_counter()
        chosen += [step.actions[0] for step in steps]
        return self.new_tokens / (time.perf_counter() - start), chosen

    def _scheduler(self, budget: tuple[float, float]) -> BatchScheduler:
        """By a share of the bytes, the first number, where the grid is the default one."""
        assert self.policy is not None
        if self.grid != grid_named(DEFAULT_GRID):
            return PolicyScheduler(self.policy, [Budget(*budget, _POLICY_BITS)])
        mixes = mixes_of(self.lm, self.grid)
        return PolicyScheduler(self.policy, [Budget.share(budget[0])], mixes=mixes)

    def _cached(self, context: int) -> KVCache:
        self.caches[context].truncate(context)
        return self.caches[context]


def _greedy(step: DecodeStep) -> list[int]:
    return [int(step.output.logits.argmax())]


def _measure_transformers(model: Any, cache: str | None, context: int, new_tokens: int) -> float:
    """``generate`` with its prefill's time taken out by a run of one token."""

    def run(count: int) -> float:
        start = time.perf_counter()
        model.generate(
            _prompt(context),
            attention_mask=torch.ones(1, context, dtype=torch.long),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            cache_implementation=cache,
        )
        return time.perf_counter() - start

    return new_tokens / (run(new_tokens + 1) - run(1))


def _prompt(context: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(100, 10_000, (1, context), generator=generator)


def _prefilled(lm: FrozenLM, context: int) -> KVCache:
    tokens, page_size = _prompt(context)[0].tolist(), ActionGrid().page_size
    return read_prefix(lm, tokens, page_size).cache


def _serve_ours(given: dict[str, Any]) -> None:
    grid, new_tokens, policy = grid_named(given["grid"]), given["new_tokens"], None
    longest = max(given["contexts"])
    if given["shape"]:
        shape, storage = shape_from_text(given["shape"]), given["storage"]
        lm = random_model(shape, longest + new_tokens + 2, storage=storage)
    else:
        folder = given["model_folder"]
        model = load_language_model(
            folder, data_dir=Path(folder), dtype=given["dtype"], device="cpu"
        )
        tune(model, default_data_dir(), lambda: None)
        lm, storage = model.lm, "q4" if model.lm.steps_are_quantised else model.dtype_name
        if given["policy_folder"]:
            policy = load_policy(Path(given["policy_folder"]), model, grid=grid)
    room = lm.spec.max_positions - new_tokens - 1
    contexts = list(dict.fromkeys(min(context, room) for context in given["contexts"]))
    text = (random_cache if given["shape"] else _prefilled)(lm, max(contexts))
    caches = {context: text.branch(1, new_tokens + 1, [context]) for context in contexts}
    ours = _Ours(lm, policy, new_tokens, grid, caches)
    ours.measure("fixed", (1.0, 1.0), contexts[0])  # warm up: caches, lazy initialisation
    mixes = [_mix(lm, grid, share, at) for at in contexts for share in given["shares"]]
    _reply({"mixes": mixes, "storage": storage, "tuning": lm.tuning})
    for line in sys.stdin:
        kind, action, at = json.loads(line)
        _reply({"tokens_per_s": ours.measure(str(kind), tuple(action), int(at))})


def _mix(lm: FrozenLM, grid: ActionGrid, share: float, context: int) -> dict[str, Any]:
    """The static mix at a share, as one action; the lowest mix where the share is below all."""
    mixes = mixes_of(lm, grid)
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

    folder, dtype, context, new_tokens = (
        given[name] for name in ("model_folder", "dtype", "context", "new_tokens")
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    cache = None
    if side == "compiled":  # as transformers' documentation does it: a cache of fixed size
        cache = "static"
        theirs.forward = torch.compile(theirs.forward, fullgraph=True)
    # The second run compiles what the first one found to differ from run to run.
    for _ in range(2 if cache else 1):
        _measure_transformers(theirs, cache, context, new_tokens)
    _reply({"dtype": dtype})
    for line in sys.stdin:
        _, _, at = json.loads(line)
        _reply({"tokens_per_s": _measure_transformers(theirs, cache, int(at), new_tokens)})


def _reply(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its workers
    options = json.loads(sys.argv[2])
    if sys.argv[1] == "ours":
        _serve_ours(options)
    else:
        _serve_transformers(sys.argv[1], options)
