"""Evaluations of several seeds as one table, and their means.

``table`` has a row per seed, budget, schedule and metric: columns that any table program, or
``datasets.load_dataset``, groups by. ``summary`` has their means over seeds, with 95 % intervals of
Student's t: what another seed's training would give, not what other texts would.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.formats import csv_cells
from sol_core.actions import AXES, SHORT_AXES

_KEY = (*SHORT_AXES, "share", "schedule", "metric")
TABLE_COLUMNS = ("seed", *_KEY, "value")
SUMMARY_COLUMNS = (*_KEY, "seeds", "mean", "low", "high")
METRICS = ("nll", "kl", "perplexity", "net_keep_rate", "bytes_per_token")
GAINS = ("gain", "kl_gain", "win_rate")  # of the policy over a schedule
# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
T_BEYOND = 1.96


def seed_rows(seed: int, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one seed's evaluation; numbers that are missing have none."""
    for budget in result["budgets"]:
        requested = budget["requested"]
        asked: dict[str, float | None] = {
            axis.short: float(requested.get(axis.short, axis.dense)) for axis in AXES
        }
        asked["share"] = requested.get("share")
        for schedule, metric, value in _numbers(budget):
            if value is not None:
                named = {"schedule": schedule, "metric": metric, "value": float(value)}
                yield {"seed": seed, **asked, **named}


def _numbers(budget: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None]]:
    for schedule, method in budget["methods"].items():
        for metric in METRICS:
            yield schedule, metric, method.get(metric)
        for axis in SHORT_AXES:
            yield schedule, f"spend_{axis}", method["spend"].get(axis)
    for schedule, paired in budget.get("paired", {}).items():
        for metric in GAINS:
            yield schedule, f"policy_{metric}", paired.get(metric)
    for metric, value in budget.get("recovered", {}).items():
        yield "policy", f"recovered_{metric}", value


def summarised(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, in the order of the rows; one seed has no interval."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _KEY), []).append(row["value"])
    found = []
    for key, values in groups.items():
        mean = math.fsum(values) / len(values)
        low = high = None
        if (free := len(values) - 1) > 0:
            quantile = T_QUANTILES[free - 1] if free <= len(T_QUANTILES) else T_BEYOND
            reach = quantile * statistics.stdev(values) / math.sqrt(len(values))
            low, high = mean - reach, mean + reach
        numbers = {"seeds": len(values), "mean": mean, "low": low, "high": high}
        found.append({**dict(zip(_KEY, key, strict=True)), **numbers})
    return found


def summary_text(summary: Sequence[Mapping[str, Any]]) -> str:
    """NLL, KL and the policy's gains, for the terminal."""
    shown = ("nll", "kl", "policy_gain", "policy_kl_gain", "recovered_kl")
    lines: list[str] = []
    asked: tuple[Any, ...] = ()
    for row in summary:
        if row["metric"] not in shown:
            continue
        if (budget := tuple(row[name] for name in (*SHORT_AXES, "share"))) != asked:
            asked = budget
            places = "  ".join(f"{axis} {row[axis]:g}" for axis in SHORT_AXES)
            if row["share"] is not None:
                places = f"{100 * row['share']:g} % of the bytes"
            lines += ["", f"budget  {places}"] if lines else [f"budget  {places}"]
        interval = "" if row["low"] is None else f"  ({row['low']:+.4f} to {row['high']:+.4f})"
        lines.append(
            f"  {row['schedule']:14} {row['metric']:14} {row['mean']:+9.4f}{interval}"
            f"  {row['seeds']} seed{'s' * (row['seeds'] > 1)}"
        )
    return "".join(f"{line}\n" for line in lines)


def write_tables(
    folder: Path, rows: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]]
) -> None:
    """Write ``table`` and ``summary`` as CSV and Parquet."""
    import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    tables = (("table", TABLE_COLUMNS, rows), ("summary", SUMMARY_COLUMNS, summary))
    for name, columns, records in tables:
        plain = [{**row, "schedule": csv_cells.plain_cell(row["schedule"])} for row in records]
        text = csv_cells.csv_text(columns, plain, line_end="\n")
        (folder / f"{name}.csv").write_text(text, "utf-8", newline="")
        texts, whole = ("schedule", "metric"), ("seed", "seeds")
        kinds = {**dict.fromkeys(texts, pa.string()), **dict.fromkeys(whole, pa.int64())}
        schema = pa.schema([(column, kinds.get(column, pa.float64())) for column in columns])
        pq.write_table(pa.Table.from_pylist(list(records), schema), folder / f"{name}.parquet")
