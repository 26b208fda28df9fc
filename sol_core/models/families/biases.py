"""Biases that a checkpoint holds and its config denies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sol_core.errors import ModelLoadError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_INPUT_BIASED = frozenset(f"self_attn.{name}_proj" for name in "qkv")
_ATTENTION = _INPUT_BIASED | {"self_attn.o_proj"}
_MLP = frozenset(f"mlp.{name}_proj" for name in ("gate", "up", "down"))


def refuse_denied_biases(config: PretrainedConfig, names: Iterable[str]) -> None:
    """Raises: ModelLoadError for a bias that transformers would leave out."""
    allowed = _biased_matrices(config)
    for name in sorted(names):
        matrix = name.removesuffix(".bias")
        if matrix != name and ".".join(matrix.split(".")[-2:]) not in allowed:
            raise ModelLoadError(
                f"the weights hold {name!r}, but config.json says that there is no such bias "
                "(attention_bias, mlp_bias): correct the one or the other"
            )


def _biased_matrices(config: PretrainedConfig) -> frozenset[str]:
    """Matrices of a layer that have a bias, as the family's code in transformers reads a config."""
    if config.model_type == "qwen2":
        return _INPUT_BIASED
    attention, mlp = (getattr(config, name, False) for name in ("attention_bias", "mlp_bias"))
    return (_ATTENTION if attention else frozenset()) | (_MLP if mlp else frozenset())
