"""Recordings: the shipped one is whole, and a new one says where its texts part."""

from __future__ import annotations

import pytest

from app.recordings.recording import shipped_recording
from sol_core.events import PageReads
from tests.app.recordings.recorder import PROMPT, TEXTS, RecordedStep


def _same(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def test_the_shipped_recording_reads_less_and_less() -> None:
    recording = shipped_recording()
    texts = recording["texts"]
    assert recording["prompt"] == PROMPT
    assert len(texts) == TEXTS
    shares = [text["share"] for text in texts]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([text["asked"] for text in texts], abs=0.01)
    assert shares[0] == 1.0
    assert shares[-1] < 0.75
    for text in texts:
        assert len(text["tokens"]) == len(text["costs"]) > 0
        assert text["same"] == _same(text["tokens"], texts[0]["tokens"])
        assert text["share"] == pytest.approx(sum(text["costs"]) / len(text["costs"]), abs=0.01)
        steps = [RecordedStep(*step) for step in text["steps"]]
        # What flows is what the step read, and the pages are the cache's, one more each 8 tokens.
        flows = [one.attention + one.mlp + one.head + one.policy for one in steps]
        assert flows == pytest.approx(text["costs"], abs=2e-3)
        pages = [one.pages for one in steps]
        assert pages == sorted(pages)
        assert pages[-1] - pages[0] == pytest.approx(len(pages) / 8, abs=1)
        reads = [PageReads(one.pages, one.cells, one.levels, one.share) for one in steps]
        assert all(len(lists) == 30 and all(lists) for lists in (r.lists(30) for r in reads))
