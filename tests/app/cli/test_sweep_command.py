"""``sweep``: a policy for each seed, going on after a stop, one table, intervals over seeds."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # pyarrow ships no types
import pytest

import sol_core.evaluation
import sol_core.training
from app.results.seeds import T_QUANTILES, seed_rows, summarised
from sol_core.actions import Budget
from sol_core.evaluation.config import EvaluationConfig
from sol_core.progress import WorkFinished, WorkProgress, WorkStopped
from sol_core.training.config import TrainConfig, preset
from tests.app.command_line import RunCommand, one_line

BUDGETS = (Budget(0.5, 0.7, 8.0), Budget(0.3, 0.6, 6.0))
FILE = """
seeds = [0, 4, 9]
dtype = "float32"
[train]
preset = "quick"
grpo = { updates = 2 }
[evaluate]
texts = 8
budgets = [
    { keep_fraction = 0.5, channel_keep_ratio = 0.7, bit_width = 8.0 },
    { keep_fraction = 0.3, channel_keep_ratio = 0.6, bit_width = 6.0 },
]
"""


def _result(seed: int, budgets: tuple[Budget, ...]) -> dict[str, Any]:
    def method(nll: float, budget: Budget) -> dict[str, Any]:
        axes = dict(zip(("keep", "channels", "bits"), budget.as_tuple(), strict=True))
        return {"nll": nll, "kl": nll / 10, "perplexity": float("nan"), "spend": axes}

    return {
        "budgets": [
            {
                "requested": method(0, budget)["spend"],
                "methods": {"policy": method(2 + seed / 10, budget), "static": method(3, budget)},
                "paired": {"static": {"gain": 1 - seed / 10, "kl_gain": 0.1, "win_rate": 0.75}},
                "recovered": {"nll": 0.5, "kl": None},
            }
            for budget in budgets
        ]
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stand-ins of both engines; "stop_at" stops one, as (kind, seed)."""
    state: dict[str, Any] = {"train": [], "evaluate": [], "stop_at": None}

    def train(model: Any, config: TrainConfig, folder: Path, **options: Any) -> Iterator[Any]:
        state["train"].append(config)
        if state["stop_at"] == ("train", config.seed):
            yield WorkStopped()
            return
        yield WorkProgress(0.5, "grpo")
        yield WorkFinished({"folder": str(folder / "policy"), "summary": {}})

    def evaluate(
        model: Any, policies: Any, config: EvaluationConfig, *, partial: Path, **options: Any
    ) -> Iterator[Any]:
        ((name, folder),) = policies.items()
        state["evaluate"].append((folder, config))
        seed = int(name.removeprefix("seed"))
        if state["stop_at"] == ("evaluate", seed):
            yield WorkStopped()
            return
        (partial.parent).mkdir(parents=True, exist_ok=True)
        yield WorkFinished(_result(seed, config.budgets))

    monkeypatch.setitem(vars(sol_core.training), "train", train)
    monkeypatch.setitem(vars(sol_core.evaluation), "evaluate", evaluate)
    monkeypatch.setattr("sol_core.models.loading.load_language_model", lambda name, **_: name)
    monkeypatch.setattr("sol_core.models.tuning.tune", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    Path("runs.toml").write_text(FILE)
    return state


def test_a_sweep_is_one_table_of_all_seeds(run: RunCommand, engine: dict[str, Any]) -> None:
    done = run("sweep", "runs.toml", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert [config.seed for config in engine["train"]] == [0, 4, 9]
    assert engine["train"][1].grpo.updates == 2
    assert engine["train"][1].warm_start == preset("quick").warm_start
    folders, configs = zip(*engine["evaluate"], strict=True)
    assert folders[2] == Path("runs/seed9/run/policy")
    assert {(config.texts, config.budgets, config.seed) for config in configs} == {(8, BUDGETS, 0)}
    rows = pq.read_table("runs/table.parquet").to_pylist()
    assert rows == report["rows"]
    with Path("runs/table.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [row["value"] for row in told] == [str(row["value"]) for row in rows]
    keys = [tuple(row[name] for name in row if name != "value") for row in rows]
    assert len(set(keys)) == len(keys), "one row a seed, budget, schedule and metric"
    (nll,) = [
        row
        for row in pq.read_table("runs/summary.parquet").to_pylist()
        if (row["keep"], row["schedule"], row["metric"]) == (0.3, "policy", "nll")
    ]
    values = [2.0, 2.4, 2.9]
    reach = 4.303 * statistics.stdev(values) / math.sqrt(3)
    assert nll["seeds"] == 3
    assert nll["mean"] == pytest.approx(statistics.fmean(values))
    assert (nll["low"], nll["high"]) == pytest.approx((nll["mean"] - reach, nll["mean"] + reach))


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_sweep_goes_on_where_it_was_stopped(
    run: RunCommand, engine: dict[str, Any], kind: str
) -> None:
    engine["stop_at"] = (kind, 4)
    done = run("sweep", "runs.toml")
    assert (done.status, done.out) == (130, "")
    assert "goes on from here" in done.err
    assert {row["seed"] for row in pq.read_table("runs/table.parquet").to_pylist()} == {0}
    engine |= {"stop_at": None, "train": [], "evaluate": []}
    done = run("sweep", "runs.toml")
    assert done.status == 0
    assert [config.seed for config in engine["train"]] == [4, 9], "seed 0 is not done again"
    assert "policy         nll              +2.4333  (+1.3131 to +3.5536)  3 seeds" in done.out
    before = len(engine["train"])
    assert run("sweep", "runs.toml").out == done.out
    assert len(engine["train"]) == before


def test_what_was_run_is_written_whole_and_runs_again(
    run: RunCommand, engine: dict[str, Any]
) -> None:
    run("sweep", "runs.toml")
    text = Path("runs/sweep.toml").read_text()
    assert "# written by version" in text
    assert "torch" in text
    run("sweep", "runs/sweep.toml", "--out", "again")
    again = Path("again/sweep.toml").read_text()
    assert again == text
    assert engine["train"][:3] == engine["train"][3:]
    assert [config for _, config in engine["evaluate"][:3]] == [
        config for _, config in engine["evaluate"][3:]
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "seeds"),
        ("seeds = []", "seeds"),
        ("seeds = [1, 1]", "different"),
        ("seeds = [-1]", "seeds"),
        ("seeds = [0]\n[train]\nseed = 1", "named once"),
        ("seeds = [0]\n[train]\npreset = 'slow'", "quick"),
        ("seeds = [0]\n[train]\ngrpo = { upates = 1 }", "upates"),
        ("seeds = [0]\n[evaluate]\ntext = 8", "text"),
        ("seeds = [0]\n[evaluate]\ncorpus = 'none.txt'", "no such file"),
        ("seeds = [0]\ntrain = 3", "table"),
        ("seeds = [0]\n[other]\nx = 1", "other"),
        ("seeds = [0", "TOML"),
    ],
)
def test_a_sweep_refuses(run: RunCommand, engine: dict[str, Any], text: str, named: str) -> None:
    Path("bad.toml").write_text(text)
    done = run("sweep", "bad.toml")
    assert named in one_line(done)
    assert done.status in (1, 2)
    assert engine["train"] == []
    assert not Path("bad").exists()


def test_a_folder_of_another_sweep_is_refused(run: RunCommand, engine: dict[str, Any]) -> None:
    run("sweep", "runs.toml")
    Path("runs.toml").write_text(FILE.replace("texts = 8", "texts = 9"))
    assert "holds a sweep of other settings" in one_line(run("sweep", "runs.toml"))
    Path("runs.toml").write_text(FILE)
    Path("runs/seed4/result.json").write_text("{")
    assert "delete it to measure it again" in run("sweep", "runs.toml").err


def test_one_seed_has_no_interval_and_a_missing_number_no_row() -> None:
    rows = list(
        seed_rows(3, json.loads(json.dumps(_result(3, BUDGETS[:1])).replace("NaN", "null")))
    )
    assert {row["metric"] for row in rows} >= {"nll", "kl", "policy_gain", "recovered_nll"}
    assert not {"perplexity", "recovered_kl"} & {row["metric"] for row in rows}
    assert {(row["low"], row["high"], row["seeds"]) for row in summarised(rows)} == {
        (None, None, 1)
    }


def test_the_quantiles_are_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = [stats.t.ppf(0.975, free) for free in range(1, len(T_QUANTILES) + 1)]
    assert found == pytest.approx(list(T_QUANTILES), abs=1e-3)
