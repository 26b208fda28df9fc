"""The counterfactual lens on a fixed text: one token under every level of every axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sol_core.actions import DENSE
from sol_core.errors import ConfigError
from sol_core.inspection.config import InspectionConfig
from sol_core.inspection.engine import cut, inspect_text, text_tokens
from sol_core.inspection.records import InspectedToken
from sol_core.lens.engine import FOLLOWING, Lens
from sol_core.lens.records import LensRun, LensView
from sol_core.models.loading import LanguageModel


def look_at_text(
    model: LanguageModel,
    text: str,
    index: int,
    config: InspectionConfig,
    policies: Callable[[str], Path] = Path,
) -> tuple[LensView, int]:
    """One token under every level of every axis, and its id.

    Args:
        index: 0-based number among the scored tokens, as an inspection counts them.
        config: without a schedule all other steps and axes are dense; with one they are as that
            schedule takes them.
    Raises: ConfigError for an index outside the text; SolError.
    """
    tokens, prefix = text_tokens(model, text, config)
    tokens = cut(model, tokens, config)
    count = len(tokens) - prefix
    if not 0 <= index < count:
        raise ConfigError(
            f"token must be 0 to {count - 1}, got {index}: of the text's {len(tokens)} tokens the "
            f"first {prefix} cannot be foretold, and token 0 is the next one"
        )
    if not config.schedules:
        # Everything before is dense: one prefill, instead of a replay step by step.
        run = LensRun(tuple(tokens), (DENSE,) * (count - index), config.grid)
        view = Lens(model, run).look(0)
        return replace(view, index=index), tokens[prefix + index]
    actions = []
    for event in inspect_text(model, text, config, policies=policies):
        if isinstance(event, InspectedToken):
            actions.append(event.rows[1].action)
        if len(actions) > index + FOLLOWING:
            break
    known = tuple(tokens[: prefix + len(actions)])
    view = Lens(model, LensRun(known, tuple(actions), config.grid)).look(index)
    return view, tokens[prefix + index]
