"""Writes ``records.json``, what the pages' tests draw: ``python -m tests.web.record``."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.pages.explore import EXAMPLES, default_form
from app.pages.lab.accuracy_view import accuracy_view
from app.pages.lab.jobs import LAB_JOBS
from app.results.figures import result_view
from app.runs.views import whole_view
from app.web.assets import page_axes
from app.web.theme import DIFFERENCE_BINS, NUM_BINS
from sol_core.actions import GRIDS, Budget
from sol_core.config import SCHEDULE_LABELS, GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.events import event_to_dict
from sol_core.generation.sequence import page_reads
from sol_core.reporting.verdict import BROKEN_KL, BROKEN_OTHERS, answer_verdict
from storage import open_store
from tests.browser.look_samples import look_into
from tests.sol_core.generation.page_levels import levels_of
from tests.support.fake_engine import FakeEngine
from tests.support.inspection_samples import save_inspection
from tests.support.job_samples import evaluation_result, metric_row, train_sample
from tests.support.tasks_samples import tasks_result

FILE = Path(__file__).with_name("records.json")
BUDGET = Budget(0.4, 0.7, 10)
SIDES = (
    SideRowConfig("dense", ScheduleConfig("dense")),
    SideRowConfig("static", ScheduleConfig("static", BUDGET)),
)
CONFIG = GenerationConfig(
    ScheduleConfig("policy", BUDGET, policy="mine"), SIDES, max_new_tokens=12, chat=True,
    page_reads=True,grid=GRIDS["default"]
)  # fmt: skip
PAGES = ("The keeper lights <b>the</b> lamp ", "and counts the boats of the bay ")


def records(folder):
    """All records by name; ``folder`` is for a database."""
    run = _run(folder)
    with open_store(folder / "inspection.sqlite") as store:
        number = save_inspection(store, ("The", " sea", " <b>", ",", " 7", "\n", " so"))
        inspection = whole_view(store.runs.get(number), store.runs.events(number))
    evaluation = evaluation_result(("mine", "other"))
    evaluation["budgets"] = evaluation["budgets"][::4]
    made = {
        "site": {
            "numBins": NUM_BINS, "differenceBins": DIFFERENCE_BINS, "axes": page_axes(),
            "schedules": SCHEDULE_LABELS,
            "broken": {"kl": BROKEN_KL, "others": BROKEN_OTHERS},
        },
        "run": run,
        "inspection": inspection,
        "evaluation": result_view(evaluation),
        "accuracy": accuracy_view(tasks_result("mine")),
        "reports": [metric_row(step) for step in range(14, 22)],
        "sample": train_sample(4),
        "look": look_into(run["rows"][2], 4, CONFIG.grid),
        "explore": {
            "defaults": default_form("tiny"), "examples": EXAMPLES[:1], "maxCharacters": 1000,
            "maxNewTokens": 4096,
        },
        "forms": {kind: job.constants(None) for kind, job in LAB_JOBS.items()},
        "reads": [_reads(*shape) for shape in ((1, 1), (2, 3), (30, 5), (31, 65))],
        "outcomes": [
            (*case, verdict.head if (verdict := answer_verdict(*case)) else "")
            for case in (
                (0, 0, None, None), (8, 0, 0.5, None), (10, 4, 0.3, 4), (10, 4, 0.3, 5),
                (10, 5, 0.1, 5), (10, 1, 0.31, 0),
            )
        ],
        "mlp": [
            [grid.to_dict(), ratio, grid.mechanisms.mlp_fractions(ratio)]
            for grid in GRIDS.values() for ratio in (0.4, 0.123, 0.777, 1.0)
        ],
    }  # fmt: skip
    return _rounded(json.loads(json.dumps(made)))


def _run(folder):
    start, *steps, end = FakeEngine(pages=PAGES)(None, "The <b>keeper", CONFIG, lambda: False)
    with open_store(folder / "run.sqlite") as store:
        record = store.runs.create("a" * 32, "The <b>keeper", "me/m", "policy", CONFIG.to_dict())
        store.runs.set_prefill(record.id, event_to_dict(start))
        store.runs.append_events(record.id, [event_to_dict(one) for one in steps])
        store.runs.finish(record.id, "finished", event_to_dict(end))
        return whole_view(store.runs.get(record.id), store.runs.events(record.id))


def _reads(layers, pages):
    """Pages that a step read, as written, and the levels by the docstring of ``PageReads``."""
    readers = np.random.default_rng(0).integers(0, 4, (layers, pages)).astype(np.uint8)
    readers[:, -1] = np.maximum(readers[:, -1], 1)
    made = page_reads(readers, 3)
    levels = levels_of(made.levels, made.cells, layers)
    return [asdict(made), layers, list(itertools.chain.from_iterable(levels))]


def _rounded(value):
    """Six digits, which every machine computes alike; ids and times of making are left out."""
    if isinstance(value, dict):
        time = "2026-01-02T03:04:05+00:00"
        known = {"id": "made", "created_at": time, "made": time}
        return {name: known.get(name) or _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        FILE.write_text(json.dumps(records(Path(temporary)), indent=None), "utf-8")
