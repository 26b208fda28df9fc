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

# One a day, in turn. At the default budget the shipped policy beats static by 8 % over all six at
# 24, 32 and 40 tokens in bfloat16 and float32, on 29 of 36 plays; with random's rows beside, by 7
# and 8 % on 26 and 27. The last digits decide: at one length it was 20 % better to 1 % worse.
DAILY: tuple[str, ...] = (
    "The museum is open from Tuesday to Sunday, from ten in the morning until six in the "
    "evening. On Mondays the museum is closed. Tickets cost eight euros for adults and four "
    "euros for children. On the first Sunday of every month tickets are free. The café next "
    "to the museum is open every day, also on Mondays, when the museum is closed.",
    "First hold one end of the rope in each hand. Cross the right end over the left end and "
    "pull it through. Now cross the left end over the right end and pull it through again. "
    "Pull both ends until the knot is tight. If the knot slips, you have crossed the same end"
    " twice: open the knot, and cross the right end over the left end first.",
    "The train to the north leaves from platform one at ten past every hour. The train to the"
    " south leaves from platform two at twenty past every hour. If you have a bicycle, please"
    " use the last carriage. If you have no ticket, you can buy one from the driver. The "
    "waiting room is next to platform one and is open until nine.",
    "To plant a tree, first dig a hole that is twice as wide as the roots. Put the tree in "
    "the hole and fill the hole with earth. Press the earth down with your feet. Then give "
    "the tree a bucket of water. In the first summer, give the tree a bucket of water every "
    "week. In the second summer, a bucket of water every month is enough.",
    "Before you leave the room, please close the windows and turn off the lights. Put the "
    "chairs on the tables and the cups in the kitchen. The last person locks the door and "
    "brings the key to the office. If the office is closed, put the key in the box next to "
    "the door of the office, and write your name on the list.",
    "If it rains on Saturday, the match will be played on Sunday. If it rains on Sunday as "
    "well, the match will be played on the next Saturday. Tickets stay valid in any case. The"
    " gates open at one and the match begins at three. Please do not bring bottles. Bags will"
    " be searched at the gates, and dogs must stay outside.",
)
