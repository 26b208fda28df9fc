"""An open lens as a document, and back.

The document holds its run whole beside the look, so that whoever imports it sees the token in its
text; what the look says of the run must agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from app.formats.plain_json import json_safe
from app.host.errors import DocumentError
from app.lens.report import ROW_FIELDS, Look, lens_json
from app.sharing.lens.lens_source import LookedAt, lens_id
from app.sharing.runs.generation_document import GENERATION
from app.sharing.runs.inspection_document import INSPECTION
from app.sharing.runs.run_document import RunDocument, restored
from sol_core.actions import AXIS_FIELDS, Action, ActionGrid, Budget
from sol_core.config import GenerationConfig
from sol_core.events import Alternative
from sol_core.fields import OneOf, Rules, from_json
from sol_core.inspection import InspectionConfig
from sol_core.lens.records import LensTrail
from storage import RunKind, RunRecord, Store

_NUMBERS = ("nll", "kl", "entropy")
_RUNS: dict[RunKind, RunDocument] = {"generation": GENERATION, "inspection": INSPECTION}


@dataclass(frozen=True, slots=True)
class _Token:
    index: int
    token_id: int
    text: str


@dataclass(frozen=True, slots=True)
class _Step:
    action: Action
    nll: float
    kl: float
    entropy: float
    choice: Alternative | None = None


@dataclass(frozen=True, slots=True)
class _Level:
    axis: Annotated[str, OneOf(AXIS_FIELDS)]
    level: float
    nll: float
    kl: float
    entropy: float
    choice: Alternative | None = None


@dataclass(frozen=True, slots=True)
class _Joint:
    bit_width: int
    rows: tuple[_Step, ...]


@dataclass(frozen=True, slots=True)
class _Lens:
    """The part "lens" of the document, but for the run's configuration."""

    run_id: str
    run_kind: RunKind
    row: int | None
    title: str
    model: str
    dtype: str
    token: _Token
    taken: _Step
    dense: _Step
    rows: tuple[_Level, ...]
    trails: tuple[LensTrail, ...]
    following: tuple[_Token, ...]
    policy: tuple[tuple[float, ...], ...] | None
    joint: _Joint | None


_RULES = Rules(
    partial=frozenset({ActionGrid, Budget, _Step, _Level}),  # looks of before choices were kept
    nullable=frozenset({*_NUMBERS, "nll_change", "policy", "probability"}),
)


def document_of_lens(lens: LookedAt, store: Store) -> dict[str, Any]:
    """The document, without the envelope."""
    record, look, index = lens.record, lens.look, lens.index
    followed = len(look.view["trails"][0]["kl"])
    tokens = _tokens(lens.events[index : index + 1 + followed])
    report = lens_json(look.model, look.dtype, record.config, tokens[0], look.view)
    about = {"run_id": record.id, "run_kind": record.kind, "row": lens.row, "title": record.title}
    rest = {
        "policy": lens.policy,
        "following": tokens[1:],
        "joint": look.plane
        and {"bit_width": look.bit_width, "rows": [row for line in look.plane for row in line]},
    }
    return {"lens": json_safe(about | report | rest)} | _RUNS[record.kind].write(store, record.id)


def import_lens(store: Store, owner: str, document: dict[str, Any]) -> str:
    """Check the document, save its run for ``owner`` and the look with it; returns the lens's id.

    Raises: DocumentError naming the first thing that is wrong; then nothing is saved.
    """
    raw = document.get("lens")
    if not isinstance(raw, dict):
        raise DocumentError("lens must be an object")
    config = raw.get("config")
    lens = restored(_Lens, {name: raw[name] for name in raw if name != "config"}, "lens", _RULES)
    kind = _RUNS[lens.run_kind]
    record, events = kind.checked(document, owner)
    _must_be(config == document[kind.part]["config"], "lens.config", f"that of {kind.part}.config")
    look = _look_of(raw, lens)
    _check(lens, raw, LookedAt(record, events, lens.token.index, lens.row, look))
    new_id = store.runs.restore(record, events).id
    with ExitStack() as undo:
        undo.callback(store.runs.delete, new_id)
        store.looks.save(new_id, lens.token.index, lens.row, asdict(look))
        undo.pop_all()
    return lens_id(new_id, lens.token.index, lens.row, look.bit_width)


def _tokens(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: event[name] for name in ("index", "token_id", "text")} for event in events]


def _look_of(raw: dict[str, Any], lens: _Lens) -> Look:
    """The look as the model gave it, from the document's flat lists."""
    taken = raw["taken"]["action"]
    axes = [
        [
            {"action": taken | {axis: row["level"]}}
            | {name: row[name] for name in ROW_FIELDS if name in row}
            for row in raw["rows"]
            if row["axis"] == axis
        ]
        for axis in dict.fromkeys(row.axis for row in lens.rows)
    ]
    view = {name: raw[name] for name in ("taken", "dense", "trails")}
    view |= {"index": lens.token.index, "axes": axes, "replayed": None}
    if lens.joint is None:
        return Look(lens.model, lens.dtype, view, None, None)
    keeps = dict.fromkeys(row.action.keep_fraction for row in lens.joint.rows)
    plane = [
        [row for row in raw["joint"]["rows"] if row["action"]["keep_fraction"] == keep]
        for keep in keeps
    ]
    return Look(lens.model, lens.dtype, view, lens.joint.bit_width, plane)


def _check(lens: _Lens, raw: dict[str, Any], of_run: LookedAt) -> None:
    """The look is one of this run's: its token, its action, the levels of its grid."""
    record, events = of_run.record, of_run.events
    index, row = lens.token.index, lens.row
    if not 0 <= index < len(events):
        raise DocumentError(f"lens.token.index is {index}; there are tokens 0 to {len(events) - 1}")
    grid = _grid(record, row)
    event = events[index]
    step = event if row is None else event["rows"][row]
    followed = len(lens.trails[0].kl) if lens.trails else 0
    expected = {
        "token": _tokens([event])[0],
        "following": _tokens(events[index + 1 : index + 1 + followed]),
        "policy": of_run.policy,
    }
    for name, wanted in expected.items():
        _must_be(raw[name] == wanted, f"lens.{name}", "that of the run")
    taken = Action(**step["action"])
    _must_be(lens.taken.action == taken, "lens.taken.action", "that of the run")
    axes = AXIS_FIELDS
    by_axis = zip(axes, grid.levels(), strict=True)
    levels: list[tuple[str, float]] = [(axis, level) for axis, some in by_axis for level in some]
    found: list[tuple[str, float]] = [(one.axis, one.level) for one in lens.rows]
    _must_be(found == levels, "lens.rows", "every level of every axis of the run's grid, in order")
    names = tuple(trail.name for trail in lens.trails)
    trails = ("taken", *axes)
    _must_be(names == trails, "lens.trails", f"those of {', '.join(trails)}")
    lengths = {len(values) for trail in lens.trails for values in (trail.kl, trail.nll_change)}
    _must_be(lengths == {len(lens.following)}, "lens.trails", "as long as lens.following")
    if lens.joint is not None:
        bits = lens.joint.bit_width
        _must_be(bits in grid.bit_widths, "lens.joint.bit_width", "a level of the run's grid")
        wanted_rows = [
            Action(keep, ratio, bits)
            for keep in grid.keep_fractions
            for ratio in grid.channel_keep_ratios
        ]
        _must_be(
            [one.action for one in lens.joint.rows] == wanted_rows,
            "lens.joint.rows",
            "the grid's levels, attention first",
        )


def _grid(record: RunRecord, row: int | None) -> ActionGrid:
    if record.kind == "generation":
        _must_be(row is None, "lens.row", "null for a generation")
        return from_json(GenerationConfig, record.config).grid
    config = from_json(InspectionConfig, record.config)
    _must_be(
        row is not None and 0 <= row < len(config.rows),
        "lens.row",
        f"one of the inspection's rows, 0 to {len(config.rows) - 1}",
    )
    return config.grid


def _must_be(is_so: bool, where: str, wanted: str) -> None:
    if not is_so:
        raise DocumentError(f"{where} must be {wanted}")
