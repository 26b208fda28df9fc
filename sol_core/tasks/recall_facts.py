"""Invented facts for the recall task: several of one form, so that their answers are alike.

A one-step fact is one sentence. A two-step fact takes two: the first names a thing, the second
states the requested property of it; its answer says both. Names and values are drawn, so no model
has seen them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

Words = tuple[tuple[str, ...], ...]  # one of each is drawn, joined by spaces


@dataclass(frozen=True, slots=True)
class Fact:
    """Sentences of a text, and a question that they answer."""

    sentences: tuple[str, ...]
    question: str
    stem: str  # how the answer starts, up to what must be recalled
    answer: str  # what follows it
    value: str  # the last words of the answer


@dataclass(frozen=True, slots=True)
class Form:
    """Facts of one form.

    Attributes:
        stem, answer: as of a fact, with the same words in braces.
        keys, links, values: what each is drawn from; ``links`` is empty for one step.
    """

    sentences: tuple[str, ...]  # with {key}, {value} and, where there are two, {link} in both
    question: str  # with {key}
    stem: str
    keys: Words
    values: Words
    links: Words = ()
    answer: str = "{value}"

    def draw(self, count: int, source: random.Random) -> list[Fact]:
        """``count`` facts that share no key, link or value."""
        keys, values = _distinct(self.keys, count, source), _distinct(self.values, count, source)
        links = _distinct(self.links, count, source) if self.links else [""] * count
        facts = []
        for key, link, value in zip(keys, links, values, strict=True):
            parts = {"key": key, "link": link, "value": value}
            sentences = tuple(sentence.format(**parts) for sentence in self.sentences)
            question, stem, answer = (
                text.format(**parts) for text in (self.question, self.stem, self.answer)
            )
            facts.append(Fact(sentences, question, stem, answer, value))
        return facts


_FIRST = (
    *("Alma", "Bruno", "Clara", "Dorian", "Edith", "Felix", "Greta", "Hugo", "Ingrid", "Jonas"),
    *("Karin", "Leopold", "Miriam", "Nestor", "Olive", "Pascal", "Quinn", "Rosa", "Simon", "Tilda"),
    *("Ulrich", "Vera", "Walter", "Ximena", "Yorick", "Zelda"),
)
_LAST = (
    *("Abernathy", "Bellamy", "Castellan", "Drummond", "Eastwick", "Farrow", "Gallagher"),
    *("Hartmann", "Ibsen", "Jorgensen", "Kowalski", "Lindqvist", "Marchetti", "Novak", "Okafor"),
    *("Pemberton", "Quigley", "Rasmussen", "Sandoval", "Thackeray", "Underhill", "Verhoeven"),
    *("Whitlock", "Yardley", "Zimmer"),
)
_PLACE_STARTS = (
    *("Ash", "Brim", "Cald", "Dun", "Elm", "Fair", "Glen", "Hale", "Kirk", "Lang", "Mar", "North"),
    *("Oak", "Pen", "Raven", "Stone", "Thorn", "West"),
)
_PLACES = tuple(
    start + end for start in _PLACE_STARTS for end in ("ford", "haven", "wick", "mouth", "by")
)
# No name is in facts of one step and of two: a text has both.
_PEOPLE = (_FIRST[::2], _LAST[::2])
_OTHERS = (_FIRST[1::2], _LAST[1::2])
_COLOURS = ("green", "red", "yellow", "white", "black", "blue", "grey", "brown")
_BOXES = ("locker", "chest", "cupboard", "trunk", "cabinet", "crate")
_ROOMS = ("kitchen", "cellar", "library", "workshop", "stable", "attic", "pantry", "boathouse")
_STREETS = ("Mill", "Harbour", "Castle", "Orchard", "Chapel", "Bridge", "Market", "Garden")

ONE_STEP = (
    Form(
        ("The lighthouse at {key} is kept by {value}.",),
        "Who keeps the lighthouse at {key}?",
        "The lighthouse at {key} is kept by",
        (_PLACES,),
        _PEOPLE,
    ),
    Form(
        ("The barn of {key} holds {value}.",),
        "What does the barn of {key} hold?",
        "The barn of {key} holds",
        _PEOPLE,
        (
            ("six", "nine", "twelve", "fifteen", "twenty", "forty"),
            ("boxes of", "crates of", "sacks of", "tins of", "rows of"),
            ("brass", "copper", "oak", "wool", "glass", "clay"),
            ("hinges", "buttons", "tiles", "bowls", "lamps", "pegs"),
        ),
    ),
    Form(
        ("The club of {key} meets on {value}.",),
        "When does the club of {key} meet?",
        "The club of {key} meets on",
        (_PLACES,),
        (
            ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
            ("at seven", "at eight", "at nine", "at half past six", "at a quarter to five"),
            ("in the morning", "in the evening"),
        ),
    ),
    Form(
        ("The parcel for {key} was delivered to {value}.",),
        "Where was the parcel for {key} delivered?",
        "The parcel for {key} was delivered to",
        _PEOPLE,
        (("14", "22", "35", "48", "57", "61", "76", "83"), _STREETS, ("Street", "Lane", "Road")),
    ),
    Form(
        ("At the fair, {key} sold {value}.",),
        "What did {key} sell at the fair?",
        "At the fair, {key} sold",
        _PEOPLE,
        (
            ("an old", "a small", "a painted", "a broken", "a heavy"),
            ("silver", "wooden", "marble", "leather", "paper"),
            ("clock", "saddle", "lantern", "mirror", "chair", "globe", "flute"),
        ),
    ),
)

TWO_STEPS = (
    Form(
        ("{key} left a coat in the {link}.", "The key of the {link} hangs in the {value}."),
        "{key} wants the coat back. Where does the key hang?",
        "{key} left a coat in the",
        _OTHERS,
        (_COLOURS, _ROOMS),
        (("iron", "cedar", "tin", "pine", "walnut"), _BOXES),
        "{link}, and its key hangs in the {value}",
    ),
    Form(
        ("{key} works for {link}.", "The office of {link} is at {value}."),
        "Where is the office of the firm that {key} works for?",
        "{key} works for",
        _OTHERS,
        (("9", "17", "28", "39", "46", "54", "65", "72"), _STREETS, ("Square", "Avenue", "Quay")),
        (_LAST[1::2], ("and Sons", "and Company", "Brothers")),
        "{link}, whose office is at {value}",
    ),
    Form(
        ("The bell of {key} was cast by {link}.", "{link} learned the trade from {value}."),
        "Who taught the founder of the bell of {key}?",
        "The bell of {key} was cast by",
        (_PLACES,),
        _OTHERS,
        _OTHERS,
        "{link}, who learned the trade from {value}",
    ),
)


def _distinct(words: Words, count: int, source: random.Random) -> list[str]:
    """``count`` different ones; they share a word only where there are fewer than ``count``."""
    parts = []
    for choices in words:
        repeats = -(-count // len(choices))
        parts.append(source.sample(choices * repeats, len(choices) * repeats)[:count])
    drawn = [" ".join(chosen) for chosen in zip(*parts, strict=True)]
    return drawn if len(set(drawn)) == count else _distinct(words, count, source)
