"""Short texts to paint schedules over, written for this page or in the public domain."""

from __future__ import annotations

from typing import Any

TEXTS: tuple[dict[str, Any], ...] = (
    {
        "label": "A recipe",
        "text": "To make a simple tomato soup, you need one onion, two cloves of garlic, a tin of "
        "tomatoes and half a litre of vegetable stock. First, chop the onion and the garlic. Heat "
        "a spoonful of oil in a pot and cook them slowly until they are soft. Then add the "
        "tomatoes and the stock, and let the soup simmer for twenty minutes. Finally, season it "
        "with salt and pepper and serve it with fresh bread.",
    },
    {
        "label": "Numbers",
        "text": "The first ten square numbers are 1, 4, 9, 16, 25, 36, 49, 64, 81 and 100. Each "
        "one is larger than the one before by the next odd number: 1 + 3 = 4, 4 + 5 = 9, "
        "9 + 7 = 16, 16 + 9 = 25, 25 + 11 = 36, and so on.",
    },
    {
        "label": "Pride and Prejudice",
        "text": "It is a truth universally acknowledged, that a single man in possession of a good "
        "fortune, must be in want of a wife. However little known the feelings or views of such a "
        "man may be on his first entering a neighbourhood, this truth is so well fixed in the "
        "minds of the surrounding families, that he is considered the rightful property of some "
        "one or other of their daughters.",
    },
    {
        "label": "Names come back",
        "text": "Professor Okafor met Doctor Lindqvist at the station in Bergen. They had not seen "
        "each other since the winter of 1998, when Lindqvist left the university. On the way to "
        "the harbour they talked about their students. “Do you remember Amina?” asked Professor "
        "Okafor. “Of course,” said Doctor Lindqvist. “Amina was the best student we ever had.”",
    },
    {
        "label": "Code",
        "text": "def count_words(text):\n    counts = {}\n    for word in text.lower().split():\n"
        "        counts[word] = counts.get(word, 0) + 1\n    return counts\n\n\n"
        'def most_common(text, n):\n    """Return the n most common words of a text."""\n'
        "    counts = count_words(text)\n    words = sorted(counts, key=counts.get, reverse=True)\n"
        "    return words[:n]\n",
    },
)
