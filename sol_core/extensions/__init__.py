"""Parts of your own: schedules, networks, observations, rewards, corpora, page scorers, pruners.

Each is registered under a name by which configurations choose it and policies remember it. A name
that nobody registered is refused; nothing here imports a module because a file named it. What a
page scorer or an MLP pruner is declared with, and made of, is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kernels.kv_blocks import KVBlock, token_scores
from kernels.mlp_pruners import MLP_PRUNERS, MlpPruner, Split
from kernels.mlp_pruners.pruner import heaviest, largest
from kernels.page_scorers import PAGE_SCORERS, PageScorer, PagesToScore, TextScores
from sol_core.errors import ConfigError
from sol_core.extensions.registry import Registry, check_name
from sol_core.extensions.tables import (
    CORPORA,
    NETWORKS,
    OBSERVATIONS,
    REWARDS,
    SCHEDULES,
    ExtraInputs,
)

__all__ = [
    "CORPORA",
    "NETWORKS",
    "OBSERVATIONS",
    "REWARDS",
    "SCHEDULES",
    "ExtraInputs",
    "KVBlock",
    "MlpPruner",
    "PageScorer",
    "PagesToScore",
    "Registry",
    "Split",
    "TextScores",
    "corpus",
    "heaviest",
    "largest",
    "mlp_pruner",
    "network",
    "observation",
    "page_scorer",
    "reward",
    "schedule",
    "token_scores",
]

PartT = TypeVar("PartT", bound=Callable[..., object])


def schedule(name: str) -> Callable[[PartT], PartT]:
    """Register a schedule: it is chosen where a policy is, by the same kind of name.

    It is a function of one row's ``StepObservation`` → ``Action``, or a class of such functions:
    each sequence gets an instance, made with ``budget`` where the class takes one.

    Args:
        name: small letters, digits, - and _; it hides a stored policy of the same name.
    Raises: ConfigError for a name that is taken or none.
    """
    return _adding(SCHEDULES, name)


def network(name: str) -> Callable[[PartT], PartT]:
    """Register a policy network, a class: ``policy.network = NAME``.

    It derives from ``sol_core.policy.network.DamageNetwork`` (damage per level, bought at a price;
    it has the warm start) or ``JointNetwork`` (logits of all joint actions), and is made of a
    layout, a grid, a ``PolicyConfig`` and the steps of an episode.

    Args:
        name: small letters, digits, - and _.
    Raises: ConfigError for a name that is taken or none.
    """
    return _adding(NETWORKS, name)


def observation(name: str, size: int) -> Callable[[PartT], PartT]:
    """Register numbers that a policy sees beside its usual inputs: ``policy.observation = NAME``.

    Args:
        name: small letters, digits, - and _.
        size: numbers per row. The function is of a ``StepObservation`` of R rows → [R, size] fp32
            on its device, within ±32,768; it must not keep a state.
    Raises: ConfigError for a name that is taken or none.
    """

    def add(function: PartT) -> PartT:
        OBSERVATIONS.add(name, ExtraInputs(size, function), function)
        return function

    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"the observation {name!r} must add one number or more, got {size!r}")

    return add


def reward(name: str) -> Callable[[PartT], PartT]:
    """Register the reward of a step in GRPO: ``grpo.reward = NAME``.

    The function is of a step's ``sol_core.training.windows.StepScores`` → [R] fp32, more is better,
    in nats where prices are to mean what they do for ``kl``.

    Args:
        name: small letters, digits, - and _.
    Raises: ConfigError for a name that is taken or none.
    """
    return _adding(REWARDS, name)


def corpus(name: str) -> Callable[[PartT], PartT]:
    """Register a corpus: ``corpus = NAME`` of trainings and evaluations.

    The function takes nothing and yields texts, the same ones each time; one in ten is held out.

    Args:
        name: small letters, digits, - and _.
    Raises: ConfigError for a name that is taken or none.
    """
    return _adding(CORPORA, name)


def page_scorer(scorer: PageScorer) -> PageScorer:
    """Register a way to score pages: ``grid.page_scorer = NAME``; the reference serves it.

    Args:
        scorer: its name, function, costs and words; see ``PageScorer`` for the shapes.
    Returns: the same.
    Raises: ConfigError for a name that is taken or none, or kernels, which only ours have.
    """
    if not isinstance(scorer, PageScorer):
        raise ConfigError(f"a page scorer is declared by a PageScorer, got {scorer!r:.60}")
    if scorer.cpu_kernels or scorer.triton_kernel:
        raise ConfigError(f"the page scorer {scorer.name!r} names kernels: leave them out")
    check_name("page scorer", scorer.name, PAGE_SCORERS, scorer.score)
    PAGE_SCORERS[scorer.name] = scorer
    return scorer


def mlp_pruner(pruner: MlpPruner) -> MlpPruner:
    """Register a way to prune the MLP: ``grid.mlp_pruning = NAME``; the reference serves it unless
    it is ``fused``.

    Args:
        pruner: its name, shares, functions and words; see ``MlpPruner`` for the shapes.
    Returns: the same.
    Raises: ConfigError for a name that is taken or none.
    """
    if not isinstance(pruner, MlpPruner):
        raise ConfigError(f"an MLP pruner is declared by an MlpPruner, got {pruner!r:.60}")
    check_name("MLP pruner", pruner.name, MLP_PRUNERS, pruner.shares)
    MLP_PRUNERS[pruner.name] = pruner
    return pruner


def _adding(registry: Registry, name: str) -> Callable[[PartT], PartT]:
    def add(part: PartT) -> PartT:
        registry.add(name, part)
        return part

    return add
