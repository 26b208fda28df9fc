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

# One a day, in turn. At the default number of tokens and budget the shipped policy beats static,
# in the batch of a challenge, by 9 to 29 % (bfloat16, CPU); it is ahead on 13 of 27 texts tried.
DAILY: tuple[str, ...] = (
    "The train to the north leaves from platform one at ten past every hour. The train to the"
    " south leaves from platform two at twenty past every hour. If you have a bicycle, please"
    " use the last carriage. If you have no ticket, you can buy one from the driver. The "
    "waiting room is next to platform one and is open until nine.",
    "To plant a tree, first dig a hole that is twice as wide as the roots. Put the tree in "
    "the hole and fill the hole with earth. Press the earth down with your feet. Then give "
    "the tree a bucket of water. In the first summer, give the tree a bucket of water every "
    "week. In the second summer, a bucket of water every month is enough.",
    "The ferry to the island leaves at eight, at eleven and at four. The ferry back leaves at"
    " nine, at noon and at five. In winter there is no ferry on Sundays. If the sea is rough,"
    " the captain decides in the morning whether the ferry sails. Please be at the pier ten "
    "minutes before the ferry leaves, and keep your ticket until you leave the island.",
    "On the first floor there are shoes, bags and hats. On the second floor there are clothes"
    " for women. On the third floor there are clothes for men. On the fourth floor there are "
    "toys and clothes for children. The restaurant is on the fifth floor. If you have lost "
    "something, please ask at the desk on the first floor.",
    "Keep the medicine in a dry place and out of the reach of children. Take one tablet in "
    "the morning and one tablet in the evening, with a glass of water. Do not take more than "
    "two tablets a day. If you have forgotten a tablet, do not take two at once. If you feel "
    "worse after three days, ask your doctor.",
    "The festival begins on Thursday evening with a concert in the park. On Friday there is a"
    " concert in the church, and on Saturday there is a concert in the theatre. On Sunday "
    "afternoon all musicians play together in the park. Tickets for one evening cost ten "
    "euros, and tickets for all evenings cost thirty euros. Children pay half.",
    "A triangle has three sides and three corners. A square has four sides and four corners. "
    "A square can be cut into two triangles, and each triangle has three sides and three "
    "corners. A circle has no sides and no corners. Two triangles can be put together to a "
    "square, but circles cannot be put together to anything without holes.",
)
