"""Int8 copies of the MLP's matrices, beside the originals, and what they lose.

Off unless asked for, because they are other weights than the model's. Rows quantised at the
MLP's inputs to 8 bits or fewer then multiply in whole numbers (``kernels/integer_linear``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kernels.integer_linear import quantise_matrix, relative_error
from sol_core.models.weights import IntegerMlp, ModelWeights


def with_integer_mlp(weights: ModelWeights) -> ModelWeights:
    """The same weights with int8 copies of every layer's gate, up and down matrices."""
    return dataclasses.replace(
        weights,
        layers=tuple(
            dataclasses.replace(
                layer,
                integer_mlp=IntegerMlp(
                    quantise_matrix(layer.gate_up.weight), quantise_matrix(layer.down.weight)
                ),
            )
            for layer in weights.layers
        ),
    )


def without_integer_mlp(weights: ModelWeights) -> ModelWeights:
    """The original weights alone; nothing is copied."""
    layers = tuple(dataclasses.replace(layer, integer_mlp=None) for layer in weights.layers)
    return dataclasses.replace(weights, layers=layers)


def integer_mlp_errors(weights: ModelWeights) -> dict[str, float]:
    """Relative error ‖W − Ŵ‖ / ‖W‖ of each int8 copy, by name ("layers.3.down")."""
    return dict(_errors(weights))


def _errors(weights: ModelWeights) -> Iterator[tuple[str, float]]:
    for index, layer in enumerate(weights.layers):
        if layer.integer_mlp is not None:
            pairs = {
                "gate_up": (layer.gate_up, layer.integer_mlp.gate_up),
                "down": (layer.down, layer.integer_mlp.down),
            }
            for name, (linear, matrix) in pairs.items():
                yield f"layers.{index}.{name}", relative_error(linear.weight, matrix)
