"""Reads a policy's config.json: its kind, shape and model. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sol_core.actions import AXES, ActionGrid
from sol_core.errors import ConfigError, PolicyError
from sol_core.fields import MAX_WHOLE, Range, Rules, check_fields, configuration, from_json, setting
from sol_core.files.paths import read_regular, why_not_parsed

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.models.spec import ModelSpec

MAX_POLICY_STEPS = 4096  # per episode; the network keeps a state for each
NetworkName = Literal["factored", "joint"]
SCHEMA = 2  # in 1, the checksum covered only the weights
READ_SCHEMAS = (1, SCHEMA)
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
# The files of a policy folder and their largest sizes.
MAX_BYTES = {CONFIG_FILE: 4_000_000, WEIGHTS_FILE: 200_000_000, CARD_FILE: 1_000_000}
# Fields of config.json outside PolicyInfo.
_BESIDE = ("schema", "weights_sha256", "prices", "correction", "states", "gains")
NUM_SCALARS = 4  # entropy, surprisal, log cached tokens, whether there is a state


@configuration
@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """The policy network."""

    network: NetworkName = setting(
        "factored", "factored: damage per axis (ours); joint: the paper's network"
    )
    width: Annotated[int, Range(8, 4096)] = setting(256, "hidden width of the network")
    num_heads: Annotated[int, Range(1, 4096)] = setting(4, "attention heads over past steps")
    dropout: Annotated[float, Range(0, 1)] = setting(
        0.3, "fraction of units dropped while training, against overfitting"
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


@dataclass(frozen=True, slots=True)
class InputLayout:
    """Sizes of an input row: hidden, middle × 2, concentration, scalars, the previous action."""

    hidden_size: Annotated[int, Range(1, 1_000_000)]
    num_layers: Annotated[int, Range(0, 10_000)]

    @classmethod
    def of(cls, spec: ModelSpec, config: PolicyConfig) -> InputLayout:
        return cls(spec.hidden_size, spec.num_layers if config.concentration else 0)

    @property
    def width(self) -> int:
        """Return the numbers per row, without the embedding."""
        return 3 * self.hidden_size + self.num_layers + NUM_SCALARS + len(AXES)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Split [..., width] into the hidden and two middle states [..., 3, C], and the rest."""
        size, shape = self.hidden_size, rows.shape
        states, rest = rows.split_with_sizes((3 * size, shape[-1] - 3 * size), -1)
        return states.view(*shape[:-1], 3, size), rest


_RULES = Rules(partial=frozenset({ActionGrid, PolicyConfig, InputLayout}))


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """Contents of a policy folder's config.json."""

    name: str  # the policy's own name
    model: str  # model, fingerprint: the language model's that it was trained on
    fingerprint: str
    grid: ActionGrid  # levels, quantisation site and page size it chooses from
    config: PolicyConfig
    layout: InputLayout  # sizes of its inputs
    episode_steps: Annotated[int, Range(1, MAX_POLICY_STEPS)] = 16  # steps per episode
    corpus_fingerprint: str = ""  # the training text's
    created: str = ""  # ISO 8601, UTC
    summary: dict[str, Any] = field(default_factory=dict)
    num_parameters: Annotated[int, Range(0, MAX_WHOLE)] = 0

    def check_grid(self, grid: ActionGrid) -> None:
        """Raise PolicyError unless the grid is the policy's own."""
        if grid != self.grid:
            raise PolicyError(
                f"policy {self.name!r} chooses from another grid ({self.grid}) than the one in "
                f"use ({grid}): use the policy's own, or train one for this grid"
            )


def read_policy_info(folder: Path) -> PolicyInfo:
    """Return the contents of a policy folder's config.json; the weights are not read."""
    return info_from_record(read_config(folder), folder)


def read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise PolicyError(
            f"{folder} holds no {CONFIG_FILE}: it is not a policy folder (config.json and "
            "model.safetensors, as training writes them)"
        )
    try:
        record = json.loads(read_regular(path, MAX_BYTES[CONFIG_FILE]).decode("utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path} cannot be read: {why_not_parsed(error)}") from error
    if not isinstance(record, dict) or record.get("schema") not in READ_SCHEMAS:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise PolicyError(
            f"{path} has policy schema {schema!r}; this release reads 1 and {SCHEMA}: "
            "it is no policy, or a newer release made it"
        )
    return record


def info_from_record(record: dict[str, Any], folder: Path) -> PolicyInfo:
    """Read a policy's description. Raises: PolicyError for missing or invalid fields."""
    own = {name: value for name, value in record.items() if name not in _BESIDE}
    try:
        return from_json(PolicyInfo, own, rules=_RULES)
    except ConfigError as error:
        raise PolicyError(f"{folder / CONFIG_FILE} is damaged: {error}") from error
