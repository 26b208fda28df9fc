"""Shape of a policy network: frozen, stored beside its weights.

The default is ours: a state encoder that predicts the damage of every level, per axis.
``network="joint"`` is the network of the paper's authors (SOL, arXiv:2605.10875), kept for
comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from sol_core.errors import ConfigError

__all__ = ["NetworkKind", "PolicyConfig"]

NetworkKind = Literal["factored", "joint"]


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """The policy network.

    Attributes:
        network: factored (predicted damage per axis and level, bought at a price) or joint
            (the authors': one head over all actions).
        width: hidden width of the encoder.
        num_heads: attention heads of its causal block; must divide width.
        dropout: share of units dropped while it is trained.
    """

    network: NetworkKind = field(
        default="factored",
        metadata={"help": "factored: damage per axis (ours); joint: the paper's single head"},
    )
    width: int = field(default=256, metadata={"help": "hidden width of the network"})
    num_heads: int = field(default=4, metadata={"help": "attention heads over past steps"})
    dropout: float = field(
        default=0.3, metadata={"help": "share of units dropped while training, against overfitting"}
    )

    def __post_init__(self) -> None:
        if self.network not in get_args(NetworkKind):
            raise ConfigError(
                f"network must be one of {', '.join(get_args(NetworkKind))}, got {self.network!r}"
            )
        if type(self.width) is not int or not 8 <= self.width <= 4096:
            raise ConfigError(f"width must be a whole number from 8 to 4096, got {self.width!r}")
        if type(self.num_heads) is not int or self.num_heads < 1 or self.width % self.num_heads:
            raise ConfigError(
                f"num_heads must divide the width {self.width}, got {self.num_heads!r}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
