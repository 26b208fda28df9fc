"""One policy on one text: the same words in every room and command; what a verdict rests on."""

import dataclasses
import math

import pytest

from app.cli.commands.evaluate import as_table
from app.cli.commands.inspect import report_text
from app.cli.commands.tasks import tasks_table
from app.pages.lab.accuracy_view import accuracy_view
from app.pages.shared.job_calls import job_view
from app.policies.library import PolicyLibrary
from app.policies.views import headlines_of, policy_verdict
from app.results.figures import result_view
from app.sharing.kinds import pair_verdict
from sol_core.actions import Spend
from sol_core.evaluation.result import EvaluationResult
from sol_core.events import StepCost
from sol_core.inspection.records import MatchedStatic, RowTotals
from sol_core.inspection.report import inspection_verdicts
from sol_core.reporting.verdict import Interval, block_interval, verdict_of
from tests.support.inspection_samples import BUDGET, inspection_events
from tests.support.job_samples import evaluation_result, finished_job
from tests.support.tasks_samples import tasks_result

TOKENS, SHARE = 400, 0.6
SENTENCE = (
    "Default policy is closer to the full model than static, by 0.050 nats of KL a token "
    "(95 % interval 0.048 to 0.052), at 60.0 % of the bytes."
)
# Of blocks of ten tokens 0.04 and 0.06 by turns, as long as there are tokens.
GAINS = [0.045 if at % 20 < 10 else 0.055 for at in range(TOKENS)]


def inspection(gains=GAINS, share=SHARE, static_share=SHARE, matched=()):
    """The end of an inspection in which the policy gains so much against static."""
    start, *tokens, end = inspection_events(["x"] * len(gains))
    tokens = [
        dataclasses.replace(
            token,
            rows=tuple(
                dataclasses.replace(row, kl=kl)
                for row, kl in zip(token.rows[:3], (0.0, 0.3, 0.3 - gain), strict=True)
            ),
        )
        for token, gain in zip(tokens, gains, strict=True)
    ]
    shares = (1.0, static_share, share)
    totals = tuple(
        RowTotals(row.name, row.nll, 0.3, Spend(1, 1, 16), StepCost(mlp_bytes=1e9 * part))
        for row, part in zip(end.rows[:3], shares, strict=True)
    )
    verdicts = inspection_verdicts(tokens, totals, matched)
    return start, dataclasses.replace(end, rows=totals, verdicts=verdicts, matched=matched)


def evaluation(gain, tokens=TOKENS, share=SHARE, static_share=SHARE):
    """An evaluation at one budget with this gain."""
    result = evaluation_result(("default",)) | {"schema": 2, "scored_tokens": tokens}
    (budget,) = result["budgets"] = result["budgets"][:1]
    budget["methods"]["default"] = budget["methods"].pop("policy")
    budget["methods"]["default"]["bytes_share"] = share
    budget["methods"]["static"]["bytes_share"] = static_share
    ends = {"gain": gain.mean, "low": gain.low, "high": gain.high}
    budget["paired"] = {
        "static": {f"{loss}_{end}": value for loss in ("nll", "kl") for end, value in ends.items()}
        | {"nll_verdict": "better", "kl_verdict": "better"}
    }
    return result


def test_one_policy_and_text_have_one_verdict_in_five_rooms_and_two_commands(store, data_dir):
    gain = block_interval(GAINS)
    start, end = inspection()
    result = evaluation(gain)
    assert str(end.verdicts[0]) == SENTENCE  # Inspect, and Python
    assert str(EvaluationResult(result).verdict()) == SENTENCE  # Python
    shown = result_view(result)["verdicts"]["static"]["kl"]  # Evaluate
    assert shown["head"] + shown["rest"] == SENTENCE
    finished_job(store, "evaluate", {"policies": ["default"]}, result)
    policy = PolicyLibrary(data_dir).get("default")
    lines = headlines_of(store.jobs.list(), policy)
    assert policy_verdict(policy, lines) == lines[0]["verdict"] == shown  # Policies
    assert SENTENCE in lines[0]["words"]  # policies show
    assert SENTENCE in report_text(start, end)  # inspect
    assert SENTENCE in as_table(result)  # evaluate

    # Training counts no bytes: static spends the same on every axis.
    held_out = {"kl": 0.25, "kl_static": 0.3, "kl_gain_low": gain.low, "kl_gain_high": gain.high}
    summary = {"held_out": held_out | {"scored_tokens": 400.0}}
    job = finished_job(store, "train", {}, {"policy": "default", "summary": summary})
    told = job_view(store.jobs.get(job), has_kept=True)["verdict"]  # Train
    words = SENTENCE.replace("at 60.0 % of the bytes", "at the same spend")
    assert told["head"] + told["rest"] == words

    # Accuracy counts answers: the same sentence about another measure.
    tasks = tasks_result()
    told = accuracy_view(tasks)["verdict"]
    budgets = tasks["pooled"][0]["budgets"]
    gains = [Interval(**budget["gain"]) for budget in budgets]
    spent = [2 * (budget["methods"]["policy"]["bytes_per_token"] / 3e8,) for budget in budgets]
    verdict = verdict_of("Default policy", "Static", gains, 1500, "accuracy", spent)
    expected = f"{verdict} All tasks pooled."
    assert told["head"] + told["rest"] == expected
    assert "is right more often than static at 1 of 3 budgets" in expected
    assert expected in tasks_table(tasks)


def test_a_broken_text_and_a_policy_left_to_static_are_told_before_a_comparison():
    _, *tokens, end = inspection_events(["x"] * TOKENS)
    kl = (0.0, 5.1, 5.1, 0.2)
    rows = [dataclasses.replace(row, kl=lost) for row, lost in zip(end.rows, kl, strict=True)]
    static = [dataclasses.replace(token.rows[1], name=end.rows[2].name) for token in tokens]
    tokens = [
        dataclasses.replace(
            token, rows=(*token.rows[:2], dataclasses.replace(row, policy=None), *token.rows[3:])
        )
        for token, row in zip(tokens, static, strict=True)
    ]
    broken, left, *_ = inspection_verdicts(tokens, rows, ())
    assert broken.kind == "bad"
    assert str(broken).startswith("Static and default policy break this text: perplexity ")
    assert left.head == "Default policy left every step to static"
    judged = inspection_verdicts(tokens[:50], rows, ())[-1]
    assert judged.head == left.head, "so few tokens suffice to say that"
    rows = [dataclasses.replace(row, kl=0.0009) for row in rows]
    kept, *_ = inspection_verdicts(tokens, rows, ())
    assert kept.kind == "good"
    assert kept.head.endswith(" stay with the full model")
    assert inspection_verdicts(tokens[:50], rows, ())[0].head == left.head, "too few for that"


def test_a_difference_too_small_to_be_noticed_is_called_that():
    close, apart = ([Interval(gain, 0.9 * gain, 1.1 * gain)] for gain in (0.0001, 0.002))
    small = verdict_of("A", "B", close, 400)
    assert small.kind == "open"
    assert small.head == "No noticeable difference between A and B"
    assert "noticeable" not in str(verdict_of("A", "B", apart, 400))


def test_a_loss_is_told_in_words_and_its_row_is_in_the_table():
    again = MatchedStatic(
        "policy:default", BUDGET, (2.0,) * TOKENS,
        StepCost(mlp_bytes=0.6e9), (0.2,) * TOKENS,
    )  # fmt: skip
    start, end = inspection(GAINS, static_share=0.9, matched=(again,))
    (verdict,) = end.verdicts
    assert verdict.kind == "bad"
    assert verdict.head == "Default policy is further from the full model than static"
    assert "-" not in str(verdict)
    assert "−" not in str(verdict)
    table = report_text(start, end).splitlines()
    (line,) = [row for row in table if row.startswith("  static at its bytes")]
    assert line.split()[4:8] == ["60.0", "%", "0.200", "2.000"]


@pytest.mark.parametrize(
    ("gain", "samples", "spent", "kind", "words"),
    [
        ((0.01, 0.002, 0.02), 199, (0.6, 0.6), "open", "Too few to tell: 199 scored tokens"),
        (
            (0.01, -0.002, 0.02),
            200,
            (0.6, 0.6),
            "open",
            "shown between policy p and static (0.010 nats",
        ),
        ((0.01, 0.002, 0.02), 200, (0.62, 0.6), "open", "No comparison at equal bytes: policy p"),
        ((-0.01, -0.02, -0.002), 200, (0.6, 0.62), "open", "spends 2.0 points less than static"),
        ((0.01, 0.002, 0.02), 200, (0.6, 0.62), "good", "at 60.0 % of the bytes against 62.0 %."),
        ((0.01, 0.002, 0.02), 200, (None, 0.6), "good", "at the same spend."),
    ],
)
def test_what_a_verdict_rests_on(gain, samples, spent, kind, words):
    verdict = verdict_of("policy p", "Static", [Interval(*gain)], samples, spent=[spent])
    assert verdict.kind == kind
    assert words in str(verdict)


def test_several_budgets_are_counted_and_those_at_other_bytes_left_out():
    gains = [Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01), Interval(0.01, -0.01, 0.02)]
    spent = [(0.6, 0.6), (0.7, 0.7), (0.8, 0.8)]
    verdict = verdict_of("policy p", "Static", gains, 400, spent=spent)
    assert str(verdict) == (
        "Policy p is closer to the full model than static at 1 of 3 budgets, further from the full "
        "model at 1, no difference shown at 1: 0.003 nats of KL a token closer on average (95 % "
        "intervals over all budgets: from 0.030 further to 0.030 closer), at 60.0 to 80.0 % of "
        "the bytes."
    )
    verdict = verdict_of("p", "Static", [gains[0], None], 400, spent=[(0.6, 0.6), (0.7, 0.5)])
    assert str(verdict).endswith("1 of 2 budgets left out: other bytes.")
    assert verdict_of("p", "Static", [None], 400) is None
    assert verdict_of("p", "Static", [], 400) is None


def test_the_second_of_two_runs_is_judged_by_kl_else_by_likelihood():
    def events(kl, share):
        cost = {"bytes_read": share}
        return [{"kl_to_dense": kl, "cost": cost, "dense_cost": {"bytes_read": 1.0}}] * TOKENS

    configs = [{"schedule": {"kind": "policy"}}, {"schedule": {"kind": "static"}}]
    told = pair_verdict(configs, [events(0.02, 0.6), events(0.01, 0.6)], [None, None])
    assert told["head"] == "B is closer to the full model than A"
    nll = [[1.0] * TOKENS, [2.0] * TOKENS]
    told = pair_verdict(configs, [events(None, 0.6), events(None, 0.6)], nll)
    assert told["head"] == "B is less likely under the full model than A"
    told = pair_verdict([{"schedule": {"kind": "dense"}}] * 2, [events(None, 1.0)] * 2, [None] * 2)
    assert told["head"] == "No difference shown between B and A"


def test_an_interval_is_over_blocks_of_neighbouring_tokens():
    own, other = ([at % 20 + more for at in range(400)] for more in (0.0, 1.0))
    for few in (1, 2, 3):
        lone = block_interval([0.5] * few)
        assert (lone.low, lone.mean, lone.high) == (0.5, 0.5, 0.5)
    same = block_interval([1.0] * 400)
    assert (same.mean, same.low, same.high) == (1.0, 1.0, 1.0)
    # Forty blocks whose means are 4.5 and 14.5 by turns: a standard error of 5 · √(1/39) each.
    apart = block_interval(own, other)
    width = 2.09 * 5 * math.sqrt(2 / 39)
    assert [apart.low, apart.high] == pytest.approx([1 - width, 1 + width])
