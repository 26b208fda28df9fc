"""Record of ``bench decode``: ratios of its contestants' tokens per second."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from sol_core.models.tuning import cpu_name

THEIRS, LLAMA_CPP = "transformers", "llama_cpp"
Rates = dict[str, list[float]]


def mix_name(mix: dict[str, Any]) -> str:
    """The same name for the same action: where a share is out of reach, the lowest is run once."""
    action = f"{mix['keep_fraction']:g}_{mix['channel_keep_ratio']:g}"
    return f"mix_{action}_{mix['context']}"


def mix_rows(rates: Rates, mixes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The static mixes beside their own dense.

    Returns: per context and requested share, that mix (``keep_fraction``,
        ``channel_keep_ratio``), the ``share`` of the dense bytes that it reads (the lowest there
        is, where it is above ``share_asked``), ``tokens_per_s``, ``speedup`` over dense and
        ``of_ideal``, that speedup times the share: 1 where time follows bytes.
    """
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


def summary(rates: Rates, bandwidth: float, ready: dict[str, Any]) -> dict[str, Any]:
    """The record of ``bench_decode``, but for its options.

    Args:
        rates: tokens per second of each contestant's rounds.
        bandwidth: measured, GB/s.
        ready: of the worker of ours: its ``mixes``, ``storage`` and ``tuning``.
    """
    theirs = [values for name, values in rates.items() if name.startswith(THEIRS)]
    best_of_theirs = [max(values) for values in zip(*theirs, strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    contexts = {mix["context"]: mix["dense_bytes"] for mix in ready["mixes"]}
    first, read = next(iter(contexts.items()))
    dense = f"dense_{first}"
    floor = bandwidth * 1e9 / read
    against = {context: f"{LLAMA_CPP}_{context}" for context in contexts}
    slower = _ratio(rates, "policy", "replay")
    return {
        "dense": [
            {"context": context, "bytes": size, "tokens_per_s": medians[f"dense_{context}"]}
            for context, size in contexts.items()
        ],
        "mixes": mix_rows(rates, ready["mixes"]),
        "tokens_per_s": medians,
        "tokens_per_s_rounds": rates,
        "ratio_to_transformers": _ratio(rates | {THEIRS: best_of_theirs}, dense, THEIRS),
        "ratio_to_llama_cpp": {
            str(context): _ratio(rates, f"dense_{context}", name)
            for context, name in against.items()
            if name in rates
        },
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
