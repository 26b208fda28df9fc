"""A generation and a score as notebooks show them: HTML that is safe whatever the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from sol_core.actions import Action
from sol_core.files.characters import whole_characters

LEAST_SPREAD = 0.05  # of the net keep rate, so that next to no difference looks like none
FULL_STRENGTH = 0.75  # of the colour, over which text of a light and of a dark page is read
# A right-to-left text, or a mark that turns the direction, ends with its block.
_TEXT_STYLE = "unicode-bidi: isolate; white-space: pre-wrap; line-height: 1.8"


def coloured_tokens(texts: Sequence[str], actions: Sequence[Action]) -> str:
    """Tokens on a colour that is the stronger the more was spent, within the run's own range.

    Args:
        texts, actions: of N tokens; whatever they hold is shown as text.
    """
    rates = [action.net_keep_rate for action in actions]
    low = min(rates, default=1.0)
    spread = max(max(rates, default=1.0) - low, LEAST_SPREAD)
    spans = []
    for text, action, rate in zip(texts, actions, rates, strict=True):
        style = f"background: rgba(230, 150, 0, {FULL_STRENGTH * (rate - low) / spread:.2f})"
        shown = escape(whole_characters(text))
        spans.append(f'<span style="{style}" title="{action.words}">{shown}</span>')
    legend = f"The stronger the colour, the more was spent on the token: {low:.0%} (none) to "
    return (
        f'<div dir="auto" style="{_TEXT_STYLE}">{"".join(spans)}</div>'
        f"<div><small>{legend}{low + spread:.0%} of dense, the mean of attention, channels and "
        "bits.</small></div>"
    )


def table(rows: Mapping[str, str]) -> str:
    """Names beside their values."""
    cells = "".join(
        f"<tr><th style='text-align: left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"
