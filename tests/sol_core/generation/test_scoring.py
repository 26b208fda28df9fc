"""Scoring against the paper authors' own numbers, and its input checks."""

import copy
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from app.bench.noise import in_other_last_bits
from sol_core.errors import ConfigError
from sol_core.generation.scoring import parse_case, score_case

GOLDEN = Path(__file__).parents[2] / "golden" / "authors_nll.json"
CASE = {
    "input_ids": [5, 6, 7, 8],
    "context_len": 2,
    "page_size": 8,
    "schedules": [[[0.5, 1.0, 16]]],
}


def _differences(model, case):
    """Of every schedule of a golden case: its bits, and ours less theirs at every step."""
    scored = zip(case["schedules"], case["nll"], score_case(model, parse_case(case)), strict=True)
    for schedule, expected, nll in scored:
        apart = [ours - theirs for theirs, ours in zip(expected, nll, strict=True)]
        yield {action[2] for action in schedule}, apart


def _steps_apart(models, case):
    """How many steps of a case's only schedule are not the authors', in the closest of models."""
    fewest = len(case["schedules"][0])
    for model in models:
        [(_, apart)] = _differences(model, case)
        fewest = min(fewest, sum(abs(d) > 2e-3 for d in apart))
        if not fewest:
            break
    return fewest


@pytest.mark.model
def test_golden_nlls_of_the_authors(either_model):
    """≥ 97 % of unquantised steps within 2e-3 nats; quantised ones agree on average.

    Where two pages or channels score alike to the last bit, the CPU's order of summation decides,
    and the steps after such a flip read other keys than the authors' did: 3 of 192 steps on a Xeon,
    17 after 4 flips on an EPYC. So a schedule counts up to its first flip, and as a whole in the
    last bits in which it comes closest to theirs. In bfloat16 they agree on average.
    """
    everything, to_flip, quantised, schedules, flipped = [], [], [], 0, []
    for case in json.loads(GOLDEN.read_text("utf-8"))["cases"]:
        of_case = zip(case["schedules"], case["nll"], _differences(either_model, case), strict=True)
        for schedule, nll, (bits, apart) in of_case:
            if bits != {16}:
                quantised += apart
                continue
            schedules += 1
            everything += apart
            flips = [step for step, d in enumerate(apart) if abs(d) > 2e-3]
            to_flip += apart[: flips[0] + 1] if flips else apart
            if flips:
                flipped.append(case | {"schedules": [schedule], "nll": [nll]})
    if either_model.dtype_name == "bfloat16":  # half of the steps differ by more than 0.13 nats
        assert statistics.median(map(abs, everything)) <= 0.25
        assert abs(statistics.fmean(everything)) <= 0.15
        assert abs(statistics.fmean(quantised)) <= 0.15
        return
    assert abs(statistics.fmean(quantised)) <= 0.06
    assert len(to_flip) >= 150
    assert statistics.fmean(abs(d) <= 2e-3 for d in to_flip) >= 0.97
    assert len(flipped) <= schedules / 4
    nudged = (in_other_last_bits(either_model.lm, bits) for bits in range(1, 13))
    models = [either_model, *(replace(either_model, lm=lm) for lm in nudged)]
    assert sum(_steps_apart(models, case) for case in flipped) <= 0.03 * len(everything)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": [1, 2, -3, 4]}, "input_ids"),
        ({"input_ids": [1, 2, 3]}, "need 4 input_ids"),
        ({"context_len": 4}, "context_len"),
        ({"schedules": []}, "schedules"),
        ({"schedules": [[[0.5, 1.0, 16]], []]}, "schedule 1"),
        ({"schedules": [[[0.5, 1.0]]]}, "an action is"),
        ({"schedules": [[[0.5, 1.0, 7.5]]]}, "whole number"),
        ({"page_size": 0}, "page_size"),
    ],
)
def test_bad_cases_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        parse_case(copy.deepcopy(CASE) | change, "case 0")
    with pytest.raises(ConfigError, match="case 3 lacks context_len, schedules"):
        parse_case({"input_ids": [1]}, "case 3")
