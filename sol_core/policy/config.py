"""Shape of a policy network: frozen, stored beside its weights.

The default is ours: a state encoder that predicts the damage of every level, per axis.
``network="joint"`` is the network of the paper's authors (SOL, arXiv:2605.10875), kept for
comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sol_core.errors import ConfigError
from sol_core.fields import Range, check_fields, setting

MAX_POLICY_STEPS = 4096  # of an episode: the network keeps a state for every one
NetworkName = Literal["factored", "joint"]


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """The policy network.

    Attributes:
        network: factored (predicted damage per axis and level, bought at a price) or joint (the
            authors': one head over all actions).
        width: hidden width of the encoder.
        num_heads: attention heads of its causal block; must divide width.
        dropout: share of units dropped while it is trained.
        concentration: it also sees attention concentration, for which steps that read all pages
            score them: 0.3 ms of a step and 4 % of its bytes at 2,000 tokens.
    """

    network: NetworkName = setting(
        "factored", "factored: damage per axis (ours); joint: the paper's network"
    )
    width: Annotated[int, Range(8, 4096)] = setting(256, "hidden width of the network")
    num_heads: Annotated[int, Range(1, 4096)] = setting(4, "attention heads over past steps")
    dropout: Annotated[float, Range(0, 1)] = setting(
        0.3, "share of units dropped while training, against overfitting"
    )
    concentration: bool = setting(
        True, "the network sees how spread attention is; dense steps then score their pages"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % self.num_heads:
            raise ConfigError(
                f"num_heads must divide the width {self.width}, got {self.num_heads!r}"
            )
        if self.dropout == 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
