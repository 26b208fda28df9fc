"""``docs/formats.md`` lists every field that files have: of the dataclasses, and of results."""

import dataclasses
import json
import re
import typing
from pathlib import Path

import pytest

from app.sharing import run_kinds
from app.sharing.run_document import RunDocument
from sol_core import MlpPruner, PageScorer
from sol_core.lens.records import LensView
from sol_core.policy.info import PolicyInfo

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text("utf-8")
LISTED = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", TEXT))))
DOCUMENTS = [value for value in vars(run_kinds).values() if isinstance(value, RunDocument)]
# Names that are data: kinds of tokens, methods, packages.
NAMES = {"word start", "continuation", "number", "punctuation", "name", "other", "default"}
NAMES |= {"sol-explorer", "python", "torch", "transformers", "numba", "triton", "arc_easy"}
NAMES |= {"emc", "dac", "random_best"}  # methods


def _dataclasses(hint):
    is_record = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    if is_record and hint not in (PageScorer, MlpPruner):
        yield hint
    for part in typing.get_args(hint):
        yield from _dataclasses(part)


def _reached(*kinds):
    """The dataclasses, and those in their fields."""
    found = dict.fromkeys(kinds)
    for kind in kinds:
        hints = typing.get_type_hints(kind, include_extras=True)
        for item in dataclasses.fields(kind):
            found |= dict.fromkeys(_reached(*_dataclasses(hints[item.name])))
    return list(found)


@pytest.mark.parametrize(
    "kind",
    _reached(*(part for one in DOCUMENTS for part in (one.head, one.token)), LensView, PolicyInfo),
    ids=lambda kind: kind.__name__,
)
def test_every_field_of_a_record_is_listed(kind):
    assert len(DOCUMENTS) == 2
    assert [item.name for item in dataclasses.fields(kind) if item.name not in LISTED] == []


def _keys(value):
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, (dict, list)):
            yield from _keys(part)


@pytest.mark.parametrize("name", ["evaluation", "accuracy"])
def test_every_field_of_a_result_is_listed(name):
    path = ROOT / "app" / "results" / "measured" / f"{name}.json"
    found = set(_keys(json.loads(path.read_text("utf-8"))["result"]))
    assert found - LISTED - NAMES == set()
