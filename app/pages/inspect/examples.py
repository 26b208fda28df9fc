"""Texts to begin with: prose with names, code, numbers in order, and repetition."""

from __future__ import annotations

from typing import Any

EXAMPLES: tuple[dict[str, Any], ...] = (
    {
        "label": "A story",
        "prompt": "The lighthouse keeper wrote down the weather every evening: the wind, the "
        "height of the sea, the ships that passed, and the hour at which he lit the lamp. On the "
        "night of the great storm he wrote only one word, and nobody who read the book in later "
        "years could agree on what that word had been. Some said it was the name of a ship.",
    },
    {
        "label": "Code",
        "prompt": "def mean(values):\n"
        '    """Return the arithmetic mean of some numbers."""\n'
        "    total = 0\n"
        "    for value in values:\n"
        "        total = total + value\n"
        "    return total / len(values)\n\n\n"
        "print(mean([1, 2, 3]))\n",
    },
    {
        "label": "A table",
        "prompt": "planet, moons, days in a year\n"
        "Mercury, 0, 88\nVenus, 0, 225\nEarth, 1, 365\nMars, 2, 687\n"
        "Jupiter, 95, 4333\nSaturn, 146, 10759\n",
    },
    {
        "label": "Facts",
        "prompt": "Water boils at 100 degrees Celsius at sea level. On a high mountain the air "
        "presses less, and water boils at a lower temperature. At the top of Mount Everest water "
        "boils at about 70 degrees Celsius.",
    },
)
