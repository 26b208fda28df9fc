"""One look through the lens as JSON, for the command line and for exported files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.formats.plain_json import json_safe
from app.host.errors import AppError
from sol_core.actions import AXES

LENS_VERSION = 1  # of the command's JSON; raised when a field changes its meaning or goes
ROW_FIELDS = ("nll", "kl", "entropy", "choice")  # of ``LensRow``, beside its action


@dataclass(frozen=True, slots=True)
class Look:
    """A look into a run, in full; its fields are its JSON form.

    Attributes:
        model, dtype: what looked.
        view: JSON form of ``LensView``.
        bit_width: of the joint grid; None without one.
        plane: joint grid at one bit width, [keep fractions][channel keep ratios] of the JSON form
            of ``LensRow``; None where none was asked for.
    """

    model: str
    dtype: str
    view: dict[str, Any]
    bit_width: int | None
    plane: list[list[dict[str, Any]]] | None

    def at(self, bit_width: int | None) -> Look:
        """With the joint grid of this bit width, or without one.

        Raises: AppError where the look holds none of it.
        """
        if bit_width is None:
            return replace(self, bit_width=None, plane=None)
        if bit_width != self.bit_width:
            held = "no joint grid" if self.plane is None else f"that of {self.bit_width} bits"
            raise AppError(f"This look came in a file, and holds {held}, not that of {bit_width}.")
        return self


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
        nll, kl and entropy in nats, and the level's choice but in looks of before it was kept;
        JSON without NaN.
    """
    rows = [
        {"axis": axis.field, "level": row["action"][axis.field]}
        | {name: row[name] for name in ROW_FIELDS if name in row}
        for axis, levels in zip(AXES, view["axes"], strict=True)
        for row in levels
    ]
    report = {"model": model, "dtype": dtype, "config": config, "token": token}
    report |= {name: view[name] for name in ("taken", "dense")}
    return dict(json_safe(report | {"rows": rows, "trails": view["trails"]}))
