"""Prompts to begin with, chosen so that they differ in what the model finds hard."""

from __future__ import annotations

from typing import Any

EXAMPLES: tuple[dict[str, Any], ...] = (
    {
        "label": "Facts",
        "prompt": "What is the capital of Japan, and what is it known for?",
        "chat": True,
    },
    {
        "label": "A story",
        "prompt": "The lighthouse keeper had not spoken to anyone for forty days. Then, one "
        "evening,",
        "chat": False,
    },
    {
        "label": "Arithmetic",
        "prompt": "A train travels 60 km per hour for 3 hours. How far does it go? Explain each "
        "step.",
        "chat": True,
    },
    {
        "label": "Code",
        "prompt": 'def fibonacci(n):\n    """Return the first n Fibonacci numbers."""\n',
        "chat": False,
    },
    {
        "label": "French",
        "prompt": "La capitale de la France est Paris. La capitale de l'Italie est",
        "chat": False,
    },
    {
        "label": "A list",
        "prompt": "The planets of the solar system, in order from the sun: Mercury, Venus,",
        "chat": False,
    },
)
