"""The record of ``bench decode``: medians, and ratios of measurements of one round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from sol_core.models.devices import cpu_name

Rates = dict[str, list[float]]
OURS = "ours"
DENSE = (1.0, 1.0)
PREFILL = "_prefill"  # ends the names of the rates of reading a text


class Contestant(NamedTuple):
    """A side and what it does: "read" (a text, then dense steps), "fixed" (steps of κ and ρ),
    "policy" or "replay" (the policy's actions)."""

    side: str
    dtype: str  # or kind of blocks
    kind: str
    action: tuple[float, float]
    context: int


def mix_name(mix: dict[str, Any]) -> str:
    """The same name for the same action: where a share is out of reach, the lowest is run once."""
    action = f"{mix['keep_fraction']:g}_{mix['channel_keep_ratio']:g}"
    return f"mix_{action}_{mix['context']}"


def mix_rows(rates: Rates, mixes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The static mixes beside their own dense."""
    rows = []
    for mix in mixes:
        name = mix_name(mix)
        speedup = _ratio(rates, name, f"dense_{mix['context']}")
        assert speedup is not None
        rate = statistics.median(rates[name])
        rows.append(
            {**mix, "tokens_per_s": rate, "speedup": speedup, "of_ideal": speedup * mix["share"]}
        )
    return rows


def anchor_rows(rates: Rates, contestants: Mapping[str, Contestant]) -> list[dict[str, Any]]:
    """Every other program at its contexts, and how many times its rates ours are."""
    rows = []
    for name, contestant in contestants.items():
        if contestant.side != OURS:
            ours = f"dense_{contestant.context}"
            rows.append(
                {
                    "anchor": f"{contestant.side} {contestant.dtype}",
                    "context": contestant.context,
                    "prefill_tokens_per_s": statistics.median(rates[name + PREFILL]),
                    "prefill_ratio": _ratio(rates, ours + PREFILL, name + PREFILL),
                    "tokens_per_s": statistics.median(rates[name]),
                    "ratio": _ratio(rates, ours, name),
                }
            )
    return sorted(rows, key=lambda row: (row["context"], row["anchor"]))


def best_rows(anchors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fastest other program at each context, by itself for prefill and for decoding."""
    rows = []
    for context in dict.fromkeys(row["context"] for row in anchors):
        here = [row for row in anchors if row["context"] == context]
        read = max(here, key=lambda row: row["prefill_tokens_per_s"])
        decoded = max(here, key=lambda row: row["tokens_per_s"])
        rows.append(
            {
                "context": context,
                "prefill_anchor": read["anchor"],
                "prefill_ratio": read["prefill_ratio"],
                "decode_anchor": decoded["anchor"],
                "decode_ratio": decoded["ratio"],
            }
        )
    return rows


def summary(
    rates: Rates, bandwidth: float, ready: dict[str, Any], contestants: Mapping[str, Contestant]
) -> dict[str, Any]:
    """The record of ``bench_decode``, but for its options."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    contexts = {mix["context"]: mix["dense_bytes"] for mix in ready["mixes"]}
    first, read = next(iter(contexts.items()))
    dense = f"dense_{first}"
    floor = bandwidth * 1e9 / read
    slower = _ratio(rates, "policy", "replay")
    anchors = anchor_rows(rates, contestants)
    return {
        "dense": [
            {
                "context": context,
                "bytes": size,
                "prefill_tokens_per_s": medians.get(f"dense_{context}{PREFILL}"),
                "tokens_per_s": medians[f"dense_{context}"],
            }
            for context, size in contexts.items()
        ],
        "mixes": mix_rows(rates, ready["mixes"]),
        "anchors": anchors,
        "against_best": best_rows(anchors),
        "tokens_per_s": medians,
        "tokens_per_s_rounds": rates,
        "policy_overhead": None if slower is None else 1 - slower,
        "bandwidth_gb_s": bandwidth,
        "floor_tokens_per_s": floor,
        "bandwidth_share": medians[dense] / floor,
        "overhead_ms": 1000 / medians[dense] - 1000 / floor,
        "storage": ready["storage"],
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "tuning": ready["tuning"],
    }


def _ratio(rates: Rates, upper: str, lower: str) -> float | None:
    """Median of the rounds' ratios of two contestants; None where one did not run."""
    pairs = list(zip(rates.get(upper, ()), rates.get(lower, ()), strict=False))
    return statistics.median(above / below for above, below in pairs) if pairs else None
