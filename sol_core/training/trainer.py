"""Trains a policy through its phases, as a generator of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from sol_core.errors import ConfigError, PolicyNotKeptError
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import provenance
from sol_core.policy.policy import save_policy
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress, WorkStopped, no_stop
from sol_core.training.calibrate import calibrate
from sol_core.training.config import TrainConfig
from sol_core.training.grpo import grpo
from sol_core.training.held_out import measure
from sol_core.training.run_state import RunState
from sol_core.training.warm_start import label, warm_start

_PHASES = {"labelling": label, "warm start": warm_start, "grpo": grpo, "calibrating": calibrate}


def train(
    model: LanguageModel,
    config: TrainConfig,
    folder: Path,  # of this run
    *,
    data_dir: Path,  # holds the corpora
    should_stop: Callable[[], bool] = no_stop,  # called after every unit of work
) -> Iterator[WorkEvent]:
    """Train a policy for a model; the last event is WorkFinished or WorkStopped."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a new folder, or that of a run to go on with")
    if config.warm_start.texts and config.policy.network != "factored":
        raise ConfigError(
            f"the {config.policy.network} network has no damage heads to warm-start: set "
            "warm_start.texts to 0"
        )
    if config.block_len > model.context_length:
        raise ConfigError(
            f"a text of this run needs {config.block_len - 1:,} tokens, more than the context of "
            f"{model.name} ({model.context_length:,}): use a smaller last_context, fewer windows "
            "or a shorter context"
        )
    return _events(RunState(model, config, folder, data_dir), should_stop)


def _events(state: RunState, should_stop: Callable[[], bool]) -> Iterator[WorkEvent]:
    yield state.report("preparing")
    state.policy.info = replace(state.policy.info, corpus_fingerprint=state.texts.open())
    if not state.progress.measured:
        yield from measure(state)
    names = [*_PHASES, "done"]
    for name, after in pairwise(names[names.index(state.progress.phase) :]):
        for event in _PHASES[name](state):
            yield event
            if not (isinstance(event, WorkProgress) and event.message == name):
                continue  # inside a unit of work, not resumable
            if should_stop():
                yield state.checkpoint()
                yield WorkStopped()
                return
            if state.is_checkpoint_due():
                yield state.checkpoint()
        state.progress.phase = after
        yield state.checkpoint()
    yield _finish(state)


def _finish(state: RunState) -> WorkFinished:
    summary = {
        "held_out": dict(state.progress.measured),
        "labelled_texts": state.progress.label_limit or 0,
        "warm_steps": state.progress.warm_steps,
        "updates": state.progress.updates,
        "minutes": round(state.elapsed_s / 60, 2),
        "train_config": state.config.to_dict(),
        "made_with": provenance(state.model),
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    state.policy.info = replace(state.policy.info, summary=summary, created=created)
    save_policy(state.policy, state.folder / "policy")
    return WorkFinished({"folder": str(state.folder / "policy"), "summary": summary})


def check_kept(summary: dict[str, Any]) -> None:
    """Raises: PolicyNotKeptError for a policy that is untrained or no better than static."""
    if summary.get("warm_steps") == summary.get("updates") == 0:
        raise PolicyNotKeptError(
            "the training was cut off before anything was learnt (no gradient step in "
            f"{summary['minutes']:g} minutes), so no policy was kept: give it more time"
        )
    held_out = summary.get("held_out", {})
    ours, static = held_out.get("kl"), held_out.get("kl_static")
    if ours is not None and static is not None and ours >= static:
        raise PolicyNotKeptError(
            f"the policy is no better than static on its held-out text (KL {ours:.4f} nats per "
            f"token, static {static:.4f} at the same spend), so it was not kept: train longer, or "
            "on more text"
        )
