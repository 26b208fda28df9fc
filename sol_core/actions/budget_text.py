"""Parses budgets as people write them."""

from __future__ import annotations

import math

from sol_core.actions.action import AXES, SHORT_AXES, Budget
from sol_core.errors import ConfigError


def parse_budget(text: str) -> Budget:
    """Read "60%", a share of the dense bytes, or "0.5,0.7,8", a value per axis.

    Raises: ConfigError for anything else.
    """
    if "%" in text:
        return parse_share_budget(text)
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != len(AXES):
        example = ",".join(f"{axis.measured[0]:g}" for axis in AXES)
        raise ConfigError(
            f'budget "{text}" must be a number per axis, {",".join(SHORT_AXES)}, as in '
            f"{example}; got {len(fields)}"
        )
    values = []
    for name, value in zip(SHORT_AXES, fields, strict=True):
        try:
            values.append(float(value))
        except ValueError:
            message = f'{name} in budget "{text}" must be a number, got "{value}"'
            raise ConfigError(message) from None
    try:
        return Budget(*values)
    except ConfigError as error:
        raise ConfigError(f'budget "{text}": {error}') from error


def parse_share_budget(text: str) -> Budget:
    """Read "60%". Raises: ConfigError for anything else."""
    try:
        return Budget.share(
            float(text.strip().removesuffix("%")) / 100 if "%" in text else math.nan
        )
    except (ValueError, ConfigError):
        raise ConfigError(
            f'a share of the bytes is written as in "50%", above 0 and at most 100; got "{text}"'
        ) from None
