"""Runs that have ended, as an import saves them."""

import dataclasses

from app.formats import json_safe
from sol_core.actions import GRIDS
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from tests.support.fake_engine import make_token


def restored_run(store, owner, token_ids):
    """The id of a run of these tokens."""
    config = json_safe(GenerationConfig(grid=GRIDS["default"]).to_dict())
    run = store.runs.create(owner, "The same prompt", "fake-model", "dense", config)
    token = json_safe(event_to_dict(make_token(0, " x")))
    rows = [token | {"index": at, "token_id": one} for at, one in enumerate(token_ids)]
    store.runs.delete(run.id)
    return store.runs.restore([(dataclasses.replace(run, status="finished"), rows)])[0]
