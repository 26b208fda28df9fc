"""Cost of a spend on GPUs that need not be there: the roofline's floors, for the page.

An *estimate*, see ``roofline.py``: one text, weights and cache in 16 bits, no launch overhead,
bits of the activations not counted. A spend is a run's mean; its floor is that of one action
with these means. Sliding windows are not known to the roofline: such models are counted as if
every layer read the whole context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.errors import ConfigError
from sol_core.speed.roofline import (
    CARDS,
    CONTEXTS,
    MODELS,
    Card,
    KernelCost,
    ModelShape,
    kernel_costs,
    step_floor_us,
)

if TYPE_CHECKING:
    from sol_core.models.spec import ModelSpec

ESTIMATED_CARDS = ("A100", "H100")
ESTIMATED_CONTEXTS = CONTEXTS
_OTHERS = ("Llama-3.2-1B", "Llama-3.1-8B")


def shape_of(name: str, spec: ModelSpec) -> ModelShape:
    """A loaded model's shape, for the roofline."""
    return ModelShape(
        name,
        spec.vocab_size,
        spec.hidden_size,
        spec.intermediate_size,
        spec.num_layers,
        spec.num_heads,
        spec.num_kv_heads,
        spec.head_size,
    )


def estimated_steps(
    loaded: ModelShape, max_context: int, spend: Action, context: int, grid: ActionGrid
) -> list[dict[str, Any]]:
    """Estimated milliseconds per token, dense and at ``spend``; JSON-ready.

    Args:
        loaded: the first row's model; the others are published models of other sizes.
        max_context: of the loaded model.
        context: tokens in the cache.
        grid: whose levels are spent.
    Returns: a record per model: "model", "is_loaded", and "cards", which is None where the
        context is more than the model holds, else per card "dense_ms", "spend_ms" and
        "saved", the share of the dense time.
    Raises: ConfigError for a context that is not listed.
    """
    if context not in ESTIMATED_CONTEXTS:
        raise ConfigError(f"context must be one of {ESTIMATED_CONTEXTS}, got {context}")
    published = [MODELS[name] for name in _OTHERS]
    others = [shape for shape in published if replace(shape, name=loaded.name) != loaded]
    table = []
    for shape in (loaded, *others):
        fits = shape is not loaded or context <= max_context
        dense, spent = (_costs(shape, action, context, grid) for action in (DENSE, spend))
        cards = {name: _compared(dense, spent, CARDS[name]) for name in ESTIMATED_CARDS}
        table.append(
            {"model": shape.name, "is_loaded": shape is loaded, "cards": cards if fits else None}
        )
    return table


def _costs(shape: ModelShape, spend: Action, context: int, grid: ActionGrid) -> list[KernelCost]:
    size, mechanisms = grid.page_size, grid.mechanisms
    return kernel_costs(shape, spend, context, page_size=size, mechanisms=mechanisms)


def _compared(
    dense: Sequence[KernelCost], spent: Sequence[KernelCost], card: Card
) -> dict[str, float]:
    dense_us, spent_us = (step_floor_us(costs, card)["total"] for costs in (dense, spent))
    return {
        "dense_ms": dense_us / 1000,
        "spend_ms": spent_us / 1000,
        "saved": 1 - spent_us / dense_us,
    }
