"""Prompts to begin with, chosen so that they differ in what the model finds hard."""

from __future__ import annotations

from typing import Any

_EXAMPLES = (
    ("Facts", "What is the capital of Japan, and what is it known for?", True),
    (
        "A story",
        "The lighthouse keeper had not spoken to anyone for forty days. Then, one evening,",
        False,
    ),
    (
        "Arithmetic",
        "A train travels 60 km per hour for 3 hours. How far does it go? Explain each step.",
        True,
    ),
    ("Code", 'def fibonacci(n):\n    """Return the first n Fibonacci numbers."""\n', False),
    ("French", "La capitale de la France est Paris. La capitale de l'Italie est", False),
    ("A list", "The planets of the solar system, in order from the sun: Mercury, Venus,", False),
)
EXAMPLES: tuple[dict[str, Any], ...] = tuple(
    {"label": label, "prompt": prompt, "chat": chat} for label, prompt, chat in _EXAMPLES
)
