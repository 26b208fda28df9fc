"""A run at a glance, as History's cards show it."""

import pytest

from app.formats import budget_text
from app.runs.glance import MOST_BARS, glance
from app.runs.recorded_run import RecordedRun
from sol_core.reporting.verdict import answer_verdict


def run_of(tokens, kind="generation", schedule="static"):
    config = {"schedule": {"kind": schedule}}
    return RecordedRun("id", kind, "A question?", "m", config, None, tokens)


def token(share, own=1, full=1, kl=0.01):
    """A token whose step read a share of the bytes."""
    return {
        "cost": {"bytes_read": 100 * share},
        "dense_cost": {"bytes_read": 100.0},
        "top": [{"token_id": own}],
        "side": [{"name": "dense", "choice": {"token_id": full}}],
        "kl_to_dense": kl,
        "text": " so",
    }


def test_a_generation_has_its_strip_share_and_verdict():
    found = glance(run_of([token(0.5), token(0.7, full=2), token(0.9), token(0.9)]), None)
    assert found["strip"] == [0.5, 0.7, 0.9, 0.9]
    assert found["share"] == pytest.approx(0.75)
    assert found["verdict"]["head"] == "Another answer"
    assert found["verdict"]["rest"] == ": the full model disagrees with 1 of 4 tokens."
    long = glance(run_of([token(0.5)] * 1000), None)
    assert len(long["strip"]) <= MOST_BARS
    assert glance(run_of([token(1.0)], schedule="dense"), None)["verdict"] is None
    assert long["answer"] == f"{'so ' * 32}".strip() + "…"
    ended = run_of([token(0.5), token(0.5) | {"text": "<|im_end|>"}])
    assert glance(ended, {"text": " so"})["answer"] == "so"
    alone = [token(0.5) | {"side": []}]
    assert glance(run_of(alone), None)["verdict"] is None
    nothing = {
        "strip": [],
        "share": None,
        "verdict": None,
        "answer": "",
        "is_left_to_static": False,
    }
    assert glance(run_of([]), None) == nothing
    by_policy, left = ([token(0.5) | {"policy": policy}] for policy in ([[0.4, 0.6]], None))
    assert not glance(run_of(by_policy, schedule="policy"), None)["is_left_to_static"]
    assert glance(run_of(left, schedule="policy"), None)["is_left_to_static"]


def test_an_inspection_has_those_of_its_last_schedule():
    rows = [{"cost": {"mlp_bytes": size, "bit_operations": 9.0}} for size in (10.0, 6.0)]
    verdict = {"kind": "good", "head": "Closer", "rest": "."}
    found = glance(run_of([{"rows": rows}] * 2, "inspection"), {"verdicts": [verdict]})
    assert found == {
        "strip": [0.6, 0.6],
        "share": 0.6,
        "verdict": verdict,
        "answer": "",
        "is_left_to_static": False,
    }


@pytest.mark.parametrize(
    ("others", "kl", "parted", "head"),
    [
        (0, 0.001, None, "Same as the full model"),
        (1, 0.1, 50, "Small changes"), (40, None, 60, "Small changes"),
        (1, 0.1, 0, "Another answer"), (40, None, 49, "Another answer"),
        (41, 0.1, 60, "Broken"), (3, 1.521, 0, "Broken"),
    ],
)  # fmt: skip
def test_a_broken_run_is_not_announced_as_a_good_one(others, kl, parted, head):
    verdict = answer_verdict(100, others, kl, parted)
    assert verdict.head == head
    kinds = {"Same as the full model": "good", "Broken": "bad"}
    assert verdict.kind == kinds.get(head, "open")
    assert answer_verdict(0, 0, None) is None


def test_a_budget_is_told_in_whole_per_cents():
    budget = {"keep_fraction": 0.5132, "channel_keep_ratio": 0.6, "bit_width": 8.25}
    config = {"schedule": {"kind": "static", "budget": budget}}
    assert budget_text(config) == "51 % attention · 60 % MLP · 8.25 bits"
    budget["bytes_share"] = 0.7153
    assert budget_text(config) == "72 % compute · 8.25 bits"
