"""Shares of the MLP by layer: measured on one text, set beside one share for all on other texts.

    .venv/bin/python -m docs.shares_by_layer MEASURED.txt OTHER.txt …

Each layer's MLP is pruned alone, at three shares. The KL to the full model is taken for
``exp(a + b · share)`` of the layer, and the shares of a mean are those at which one more byte saves
the same KL in every layer. Both schedules read the same bytes.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sol_core import Action, inspect, load_model
from sol_core.actions import GRIDS

LEVELS = (0.3, 0.5, 0.7)
MEANS = (0.5, 0.6, 0.7)
CONTEXT = 256  # tokens before the scored ones
MEASURED, SCORED = 192, 512  # tokens scored
CHOICES = np.linspace(0.2, 1.0, 161)
WHOLE_HEAD = replace(GRIDS["default"], head="whole")  # so that the head adds no KL of its own


def fixed(share: Any) -> Any:
    """A schedule that keeps this of the MLP at every step."""
    return lambda observation: Action(1.0, share)


def kl_of(model: Any, text: str, shares: Sequence[Any], tokens: int, **settings: Any) -> np.ndarray:
    """KL to the full model under each share, three at a time: [shares, tokens], nats."""
    kl = []
    for first in range(0, len(shares), 3):
        some = shares[first : first + 3]
        methods = {str(at): fixed(share) for at, share in enumerate(some)}
        limits = {"prefix_tokens": CONTEXT, "max_tokens": CONTEXT + tokens}
        seen = inspect(model, text, methods, **limits, **settings)
        kl += [[token.rows[1 + at].kl for token in seen.tokens] for at in range(len(some))]
    return np.array(kl)


def damage_of_layers(model: Any, text: str) -> np.ndarray:
    """Mean KL where one layer alone keeps one of LEVELS: [layers, levels]."""
    layers = range(model.spec.num_layers)
    alone = [
        [level if other == layer else 1.0 for other in layers]
        for layer in layers
        for level in LEVELS
    ]
    kl = kl_of(model, text, alone, MEASURED, grid=WHOLE_HEAD).mean(1)
    return kl.reshape(len(layers), len(LEVELS))


def shares_of(damage: np.ndarray, mean: float) -> list[float]:
    """Share of each layer, from ``damage_of_layers``; the mean of all is exact."""
    slopes, starts = np.polyfit(LEVELS, np.log(np.maximum(damage, 1e-9)).T, 1)
    curves = np.exp(starts[:, None] + slopes[:, None] * CHOICES)

    def at_price(price: float) -> np.ndarray:
        return CHOICES[(curves + price * CHOICES).argmin(1)]

    low, high = 0.0, 1e3
    for _ in range(80):
        price = (low + high) / 2
        low, high = (price, high) if at_price(price).mean() > mean else (low, price)
    more, less = at_price(low), at_price(high)
    gap = more.mean() - less.mean()
    part = (mean - less.mean()) / gap if gap else 0.0
    return [float(share) for share in less + part * (more - less)]


def main(measured: str, *others: str) -> None:
    model = load_model()
    damage = damage_of_layers(model, Path(measured).read_text("utf-8"))
    for name in others:
        text = Path(name).read_text("utf-8")
        for mean in MEANS:
            flat, ours = kl_of(model, text, [mean, shares_of(damage, mean)], SCORED)
            gain = (flat - ours).reshape(-1, 32).mean(1)  # of stretches, whose tokens depend
            error = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
            print(  # noqa: T201  # is a script
                f"{Path(name).name}: {mean:.0%} of the MLP, KL {flat.mean():.4f} flat, "
                f"{ours.mean():.4f} by layer ({ours.mean() / flat.mean() - 1:+.1%}), "
                f"less by {gain.mean():.4f} ± {error:.4f}"
            )
    print("at 60 %:", np.round(shares_of(damage, 0.6), 2).tolist())  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
