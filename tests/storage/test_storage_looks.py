"""Imported looks: one per token and row, of a run that there is."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from storage import InvalidRecordError, NotFoundError, RunRecord, Store


@pytest.fixture
def run_id(store: Store) -> str:
    made = datetime(2026, 1, 2, tzinfo=UTC)
    record = RunRecord(
        id="",
        owner="ann",
        kind="inspection",
        status="finished",
        title="t",
        prompt="p",
        model="m",
        schedule="static",
        config={},
        prefill=None,
        summary=None,
        error=None,
        num_tokens=0,
        created_at=made,
        updated_at=made,
    )
    return store.runs.restore(record, []).id


def test_a_look_is_found_by_run_token_and_row(store: Store, run_id: str) -> None:
    store.looks.save(run_id, 3, None, {"text": "\x00 <b> \ud800"})
    store.looks.save(run_id, 3, 0, {"row": 0})
    assert store.looks.find(run_id, 3, None) == {"text": "\x00 <b> \ud800"}
    assert store.looks.find(run_id, 3, 0) == {"row": 0}
    for run, index, row in ((run_id, 4, None), (run_id, 3, 1), ("other", 3, None)):
        assert store.looks.find(run, index, row) is None
    store.looks.save(run_id, 3, 0, {"row": "again"})
    assert store.looks.find(run_id, 3, 0) == {"row": "again"}


def test_a_look_needs_its_run_and_json(store: Store, run_id: str) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        store.looks.save("gone", 0, None, {})
    with pytest.raises(InvalidRecordError):
        store.looks.save(run_id, 0, None, {"kl": math.nan})
    assert store.looks.find(run_id, 0, None) is None
