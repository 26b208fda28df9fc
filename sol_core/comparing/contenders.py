"""The policies of an evaluation, loaded and checked against the model and each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from sol_core.actions import ActionGrid, Budget
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.errors import ConfigError
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, PolicyScheduler, load_policy

__all__ = ["Contender", "SchedulerSource", "load_contenders", "shared_grid"]


class SchedulerSource(Protocol):
    """Interface of a policy in an evaluation."""

    def scheduler(self, budgets: Sequence[Budget], *, seed: int | None) -> BatchScheduler:
        """A fresh scheduler of one row per budget; greedy, or sampled with a seed."""
        ...


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy.

    Attributes:
        grid: the action grid it was trained for.
        episode_steps: steps after which it restarts.
        trained_on: fingerprint of its training corpus; "" when unknown.
        fingerprint: of its files.
    """

    name: str
    policy: SchedulerSource
    grid: ActionGrid
    episode_steps: int
    trained_on: str
    fingerprint: str = ""


class _TrainedPolicy:
    """A policy from a folder."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def scheduler(self, budgets: Sequence[Budget], *, seed: int | None) -> BatchScheduler:
        generator = None
        if seed is not None:
            generator = torch.Generator(self._policy.embedding.device).manual_seed(seed)
        return PolicyScheduler(self._policy, budgets, generator=generator)


def load_contenders(model: LanguageModel, policies: Mapping[str, Path | Policy]) -> list[Contender]:
    """Load the policies that are folders, in the order given.

    Raises: ConfigError without a policy or for policies of different grids; PolicyError
        for a folder that holds no policy of this model.
    """
    contenders = []
    for name, given in policies.items():
        policy = load_policy(given, model) if isinstance(given, Path) else given
        policy.check_model(model.fingerprint)
        info = policy.info
        contenders.append(
            Contender(
                name,
                _TrainedPolicy(policy),
                info.grid,
                info.episode_steps,
                info.corpus_fingerprint,
                _fingerprint(given) if isinstance(given, Path) else _content_fingerprint(given),
            )
        )
    shared_grid(contenders)
    return contenders


def _fingerprint(folder: Path) -> str:
    """SHA-256 of a policy's configuration and weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _content_fingerprint(policy: Policy) -> str:
    """SHA-256 of what decides a loaded policy's choices."""
    digest = hashlib.sha256(repr((policy.info, policy.prices, policy.correction)).encode())
    for name, value in sorted(policy.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def shared_grid(contenders: Sequence[Contender]) -> ActionGrid:
    """The grid that all policies were trained for.

    Raises: ConfigError when there is no policy, or grids differ: spend on another grid or
        quantisation site means something else.
    """
    if not contenders:
        raise ConfigError("no policy to evaluate; give at least one")
    first = contenders[0]
    for other in contenders[1:]:
        if other.grid != first.grid:
            raise ConfigError(
                f"policies {first.name} and {other.name} have different action grids "
                "(levels, page size or quantisation site); evaluate them separately"
            )
    return first.grid
