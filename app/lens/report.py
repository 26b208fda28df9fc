"""One look through the lens as JSON, for the command line."""

from __future__ import annotations

from typing import Any

from app.formats.plain_json import json_safe
from sol_core.actions import axes_of

LENS_VERSION = 1  # of the command's JSON; raised when a field changes its meaning or goes
ROW_FIELDS = ("nll", "kl", "entropy", "choice")  # of ``LensRow``, beside its action


def lens_json(
    model: str, dtype: str, config: dict[str, Any], token: dict[str, Any], view: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON form of a lens view.

    Args:
        model, dtype: what looked.
        config: JSON of the run's or the text's configuration.
        token: "index", "token_id" and "text" of the token that was looked at.
        view: JSON form of ``LensView``.
    Returns: "rows" has one object per level of every axis, the other axes as taken: axis, level,
        nll, kl and entropy in nats, and the level's choice; JSON without NaN.
    """
    rows = [
        {"axis": axis.field, "level": row["action"].get(axis.field, axis.dense)}
        | {name: row[name] for name in ROW_FIELDS}
        for axis, levels in zip(axes_of(config["grid"]), view["axes"], strict=True)
        for row in levels
    ]
    report = {"model": model, "dtype": dtype, "config": config, "token": token}
    report |= {name: view[name] for name in ("taken", "dense")}
    return dict(json_safe(report | {"rows": rows, "trails": view["trails"]}))
