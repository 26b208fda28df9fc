"""Inspections without a model: plausible, reproducible numbers for any texts of tokens."""

import math

from app.formats import json_safe
from sol_core.actions import DENSE, GRIDS, Budget, Spend
from sol_core.config import ScheduleConfig
from sol_core.events import Alternative, StepCost
from sol_core.inspection import records
from sol_core.inspection.report import difficulty, inspection_verdicts
from tests.support.fake_engine import action_near, bells

BUDGET = Budget(0.5, 0.7, 10)
INSPECTION_CONFIG = records.InspectionConfig(
    schedules=(
        ScheduleConfig("static", BUDGET),
        ScheduleConfig("policy", BUDGET, policy="default"),
        ScheduleConfig("emc", BUDGET),
    ),
    grid=GRIDS["default"],
)
KINDS = ("word start", "continuation", "number", "punctuation", "name", "other")
_LEVELS = INSPECTION_CONFIG.grid.levels()


def inspection_events(tokens, config=INSPECTION_CONFIG):
    """Start, one event per text of ``tokens``, end with its report."""
    made = [_token(index, text, config) for index, text in enumerate(tokens)]
    yield records.InspectionStart(config.rows, (1,), "\ud83d<b>", len(made) + 3, len(made), 12.5)
    yield from made
    totals = [_totals(row, name, made) for row, name in enumerate(config.rows) if made]
    report = difficulty(made) if made else None
    yield records.InspectionEnd(
        "finished", len(made), 70.0 * len(made), 14.25, tuple(totals), report,
        verdicts=inspection_verdicts(made, totals, ()),
    )  # fmt: skip


def save_inspection(store, tokens, text="A </script> text", config=INSPECTION_CONFIG):
    """An inspection as the page saves it; returns its id."""
    schedule = ", ".join(config.rows)
    written = json_safe(config.to_dict())
    record = store.runs.create("a" * 32, text, "fake-model", schedule, written, "inspection")
    first, *middle, last = inspection_events(tokens, config)
    store.runs.set_prefill(record.id, json_safe(first.to_dict()))
    store.runs.append_events(record.id, [json_safe(event.to_dict()) for event in middle])
    store.runs.finish(record.id, "finished", json_safe(last.to_dict()))
    return record.id


def _token(index, text, config):
    nll = 0.1 + 3 * _wave(index, 0.7) ** 3
    chosen = math.exp(-nll)
    top = [Alternative(100 + index, text, chosen)]
    top += [Alternative(rank, f" word{rank}", (1 - chosen) / (rank + 3)) for rank in range(4)]
    rows = [
        _row(index, place, name, nll, None if place == 0 else config.schedules[place - 1].budget)
        for place, name in enumerate(config.rows)
    ]
    return records.InspectedToken(
        index=index, token_id=100 + index, text=text, kind=KINDS[index % len(KINDS)],
        top=tuple(sorted(top, key=lambda one: -one.probability)), rows=tuple(rows),
        cached_tokens=index + 1, step_ms=70.25, elapsed_ms=70.25 * (index + 1),
    )  # fmt: skip


def _row(index, place, name, nll, budget):
    wave = _wave(index, 0.7 + 0.2 * place)
    action = DENSE if budget is None else action_near(budget, wave if name != "static" else 0.5)
    share = (action.keep_fraction + action.channel_keep_ratio) / 2
    cost = StepCost(1e8 * share, 1e8 * share, 5e7, 0, 1e8 * share, 1e8 * share, 5e7, 0)
    harm = 0.0 if budget is None else 0.4 * (wave - 0.5) + 0.05
    kl = 0.0 if budget is None else 0.08 * wave
    return records.InspectedRow(name, action, nll + harm, kl, 1 + wave, cost, _policy(name, action))


def _policy(name, action):
    if not name.startswith("policy:"):
        return None
    return bells(_LEVELS, action, 3)


def _totals(row, name, made):
    steps = [token.rows[row] for token in made]
    count = len(steps)
    means = [sum(step.action.as_tuple()[axis] for step in steps) / count for axis in range(3)]
    return records.RowTotals(
        name,
        sum(step.nll for step in steps) / count,
        sum(step.kl for step in steps) / count,
        Spend(*means),
        sum((step.cost for step in steps), StepCost()),
    )


def _wave(index, pace):
    return 0.5 + 0.5 * math.sin(index * pace)
