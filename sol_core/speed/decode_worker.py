"""One contestant of ``bench decode`` in a process of its own: measures what stdin asks for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sol_core.actions import Action, Budget, Mechanisms, grid_named
from sol_core.decoding.batch_scheduling import BatchScheduler, StepObservation
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.files.places import default_data_dir
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel, load_language_model
from sol_core.models.tuning import tune
from sol_core.policy import Policy, PolicyScheduler, load_policy

_CHUNK = 512  # prompt tokens per prefill pass: bounds the attention's memory
_POLICY_BITS = 8.0


class _Ours:
    """Our decode steps, greedy, one row; each context is prefilled once."""

    def __init__(
        self, model: LanguageModel, policy: Policy | None, new_tokens: int, mechanisms: Mechanisms
    ) -> None:
        self._model, self._policy, self._new_tokens = model, policy, new_tokens
        self._mechanisms = mechanisms
        self._caches: dict[int, KVCache] = {}
        self._chosen: list[Action] = []

    def measure(self, kind: str, budget: tuple[float, float], context: int) -> float:
        """Tokens per second: "fixed" steps of one action, "policy", or its "replay"."""
        if kind == "fixed":
            return self._fixed(Action(*budget), context)
        if kind == "policy":
            return self._through_loop(_Recorder(self._scheduler(budget)), context)
        if not self._chosen:
            self._through_loop(_Recorder(self._scheduler(budget)), context)
        return self._through_loop(_Replay(self._chosen), context)

    def _fixed(self, action: Action, context: int) -> float:
        lm, cache, how = self._model.lm, self._prefilled(context), self._mechanisms
        # The first step brings page bounds up to date: once per generation, not per token.
        token = lm.decode_step(torch.tensor([1]), cache, action, mechanisms=how).logits.argmax(-1)
        start = time.perf_counter()
        for _ in range(self._new_tokens):
            token = lm.decode_step(token, cache, action, mechanisms=how).logits.argmax(-1)
        return self._new_tokens / (time.perf_counter() - start)

    def _through_loop(self, scheduler: _Recorder | _Replay, context: int) -> float:
        """The decode loop's steps after its first, which copies the prefix."""
        options = DecodeOptions(self._new_tokens + 1, self._mechanisms)
        steps = decode(self._model.lm, self._prefilled(context), [1], scheduler, _greedy, options)
        next(steps)
        start = time.perf_counter()
        for _ in steps:
            pass
        seconds = time.perf_counter() - start
        self._chosen = scheduler.chosen
        return self._new_tokens / seconds

    def _scheduler(self, budget: tuple[float, float]) -> BatchScheduler:
        assert self._policy is not None
        return PolicyScheduler(self._policy, [Budget(*budget, _POLICY_BITS)])

    def _prefilled(self, context: int) -> KVCache:
        lm = self._model.lm
        if context not in self._caches:
            cache = lm.new_cache(1, context + self._new_tokens + 1)
            for piece in _prompt(context).split(_CHUNK, 1):
                lm.prefill(piece, cache)
            self._caches[context] = cache
        self._caches[context].truncate(context)
        return self._caches[context]


class _Recorder:
    """A policy's scheduler that remembers its actions."""

    def __init__(self, scheduler: BatchScheduler) -> None:
        self._scheduler, self.chosen = scheduler, list[Action]()
        self.observes = scheduler.observes

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        actions = self._scheduler.next_actions(observation)
        self.chosen.append(actions[0])
        return actions


class _Replay:
    """The recorded actions, chosen by nobody."""

    observes = False

    def __init__(self, chosen: Sequence[Action]) -> None:
        self.chosen = list(chosen)

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        return [self.chosen[observation.step]]


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


def _serve_ours(arguments: list[str]) -> None:
    _, dtype, folder, policy_folder, context, new_tokens, name = arguments
    grid = grid_named(name)
    model = load_language_model(folder, data_dir=Path(folder), dtype=dtype, device="cpu")
    tune(model, default_data_dir(), lambda: None)
    policy = load_policy(Path(policy_folder), model, grid=grid) if policy_folder else None
    ours = _Ours(model, policy, int(new_tokens), grid.mechanisms)
    dense = CostModel.of(model.lm, grid).decode_step(Action(), int(context))
    ours.measure("fixed", (1.0, 1.0), int(context))  # warm up: caches, lazy initialisation
    _reply(
        {
            "dense_bytes": dense.bytes_read,
            "dtype": model.dtype_name,
            "max_context": model.spec.max_positions,
            "tuning": model.lm.tuning,
        }
    )
    for line in sys.stdin:
        kind, budget, at = json.loads(line)
        _reply({"tokens_per_s": ours.measure(str(kind), tuple(budget), int(at))})


def _serve_transformers(arguments: list[str]) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    side, dtype, folder, _, context, new_tokens, _ = arguments
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    cache = None
    if side == "compiled":  # as transformers' documentation does it: a cache of fixed size
        cache = "static"
        theirs.forward = torch.compile(theirs.forward, fullgraph=True)
    # The second run compiles what the first one found to differ from run to run.
    for _ in range(2 if cache else 1):
        _measure_transformers(theirs, cache, int(context), int(new_tokens))
    _reply({"dtype": dtype})
    for line in sys.stdin:
        _, _, at = json.loads(line)
        _reply({"tokens_per_s": _measure_transformers(theirs, cache, int(at), int(new_tokens))})


def _reply(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve = _serve_ours if sys.argv[1] == "ours" else _serve_transformers
    serve(sys.argv[1:])
