"""Recordings: the shipped one is whole, and its answers break from the right place on."""

from __future__ import annotations

import pytest

from app.results.shipped import shipped_recording
from sol_core.events import PageReads
from tests.app.recordings.recorder import QUESTIONS, SHARES, RecordedStep, story_text

ANSWERS = (" twenty miles", " 1874", " Juniper")


def _same(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def test_the_shipped_recording_reads_less_and_less() -> None:
    recording = shipped_recording()
    texts = recording["texts"]
    assert recording["story"] == story_text()
    assert "".join(recording["pages"]).startswith(recording["story"])
    assert [(one["question"], one["stem"]) for one in recording["questions"]] == list(QUESTIONS)
    assert all(1200 <= one["tokens"] <= 2000 for one in recording["questions"])
    assert [text["asked"] for text in texts] == list(SHARES)
    shares = [text["share"] for text in texts]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx(SHARES, abs=0.03)
    for text in texts:
        for answer, dense in zip(text["answers"], texts[0]["answers"], strict=True):
            assert len(answer["tokens"]) == len(answer["costs"]) > 0
            assert answer["same"] == _same(answer["tokens"], dense["tokens"])
            steps = [RecordedStep(*step) for step in answer["steps"]]
            # What flows is what the step read, and the pages are the cache's.
            flows = [one.attention + one.mlp + one.head + one.policy for one in steps]
            assert flows == pytest.approx(answer["costs"], abs=2e-3)
            for one in steps:
                reads = PageReads(one.pages, one.cells, one.levels, one.share)
                lists = reads.lists(30)
                assert len(lists) == 30
                assert all(lists)
                assert len(one.by_page) in (0, one.pages)
                assert bool(one.by_page) == (one.share < 1)


def test_the_answers_stand_on_their_pages_and_one_breaks_first() -> None:
    recording = shipped_recording()
    first, *others = recording["texts"]
    for answer, words in zip(first["answers"], ANSWERS, strict=True):
        assert "".join(answer["tokens"]).startswith(words)
    facts = [recording["pages"][one["fact"]] for one in recording["questions"]]
    for fact, word in zip(facts, ("twenty", "1874", "Juniper"), strict=True):
        assert word in fact
    dense = [answer["tokens"] for answer in first["answers"]]
    whole = [
        sum(one["tokens"] == other for one, other in zip(text["answers"], dense, strict=True))
        for text in others
    ]
    assert whole == sorted(whole, reverse=True)
    assert set(whole) == {3, 2, 1, 0}, "they break one after another"
