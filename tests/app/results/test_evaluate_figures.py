"""A result as figures, table and files: pure functions of the JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pages.lab.job_forms import EVALUATE_FORM
from app.pages.lab.jobs import MAX_POLICIES, checked_policies
from app.results.figures import dense_share, figures_of, pareto_front, result_view
from app.results.files import csv_text, json_text
from sol_core.actions import AXES
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.fields import from_json
from tests.support.job_samples import RANDOM_SCHEDULES, evaluation_result

POINT = st.tuples(st.floats(0, 1), st.floats(0, 10))


@pytest.fixture
def result() -> dict[str, Any]:
    return evaluation_result(("mine", "other"))


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(0.5, 3.0), (0.3, 4.0), (0.6, 3.5), (0.3, 3.9), (0.7, 2.0)]
    assert pareto_front(points) == [[0.3, 3.9], [0.5, 3.0], [0.7, 2.0]]
    assert pareto_front([]) == []


@given(st.lists(POINT, max_size=30))
def test_every_point_is_on_the_front_or_beaten_by_it(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    assert all([x, y] in front or any(a <= x and b <= y for a, b in front) for x, y in points)
    spends, losses = [x for x, _ in front], [y for _, y in front]
    assert spends == sorted(set(spends))
    assert losses == sorted(set(losses), reverse=True)


def test_bits_become_shares_and_shares_stay() -> None:
    (bits,) = (axis for axis in AXES if axis.short == "bits")
    assert dense_share(bits, 8) == 0.5
    assert dense_share(bits, 16) == 1
    assert dense_share(bits, 0.5) == 0.5


def test_the_headline_counts_wins_and_sure_wins(result: dict[str, Any]) -> None:
    line = result_view(result)["headline"]["static"]
    paired = [one["paired"]["static"] for one in result["budgets"]]
    assert line["budgets"] == 9
    assert line["nll"]["better"] == sum(one["gain"] > 0 for one in paired) == 8
    assert line["nll"]["surely"] == sum(one["low"] > 0 for one in paired)
    assert line["kl"]["surely"] == sum(one["kl_low"] > 0 for one in paired)
    mean = sum(one["gain"] for one in paired) / 9
    assert line["nll"]["mean_gain"] == pytest.approx(mean, rel=1e-4)
    assert line["gap"]["keep"] == 0.012


def by_share(result: dict[str, Any]) -> dict[str, Any]:
    """The result as if its budgets had been shares of the bytes."""
    for place, one in enumerate(result["budgets"]):
        one["requested"] = {"share": 0.5 + place / 20, "bits": 16.0}
        one["adherence"] = {"gap": {"share": -0.01}, "episode": {"share": 0.02}}
        for method in one["methods"].values():
            read = {"bytes_share": 0.51, "bytes_per_token": 5e7, "dense_bytes_per_token": 1e8}
            method.update(read)
    return result


def test_a_result_by_share_says_what_was_asked_and_read(result: dict[str, Any]) -> None:
    view = result_view(by_share(result))
    json.dumps(view, allow_nan=False)
    row = view["rows"]["static"][1]
    assert (row["asked_share"], row["shares"]) == (0.55, [0.51, 0.51])
    assert view["headline"]["static"]["gap"]["share"] == 0.02
    assert view["figures"]["pareto"]["methods"][0]["points"][1]["label"] == "55 % compute"
    assert view["figures"]["variability"]["budgets"][0]["keep"]["asked"] is None
    assert "adherence" not in view["figures"]
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    assert (rows[0]["requested_share"], rows[0]["bytes_share"]) == ("0.5", "0.51")
    assert rows[0]["requested_keep"] == ""


def test_a_form_keeps_shares() -> None:
    for text in ("50%\n62.5%", "50 % compute; 62.5 % compute"):
        config = EVALUATE_FORM.config_of({"budgets": text})
        assert EVALUATE_FORM.values_of(config)["budgets"] == "50 % compute\n62.5 % compute"


def test_the_table_has_both_measures_against_every_baseline(result: dict[str, Any]) -> None:
    view = result_view(result)
    assert view["methods"][0] == {"name": "policy", "label": "Policy"}
    names = [one["name"] for one in view["baselines"]]
    assert {"static", "dense", "random_best", "emc", "dac", "policy:other"} == set(names)
    labels = {one["name"]: one["label"] for one in view["baselines"]}
    assert labels["policy:other"] == "other"
    first = view["rows"]["static"][0]
    raw = result["budgets"][0]
    assert first["budget"] == [0.3, 0.45, 6]
    assert first["nll"]["policy"] == pytest.approx(raw["methods"]["policy"]["nll"], rel=1e-4)
    assert first["kl"]["gain"][1] == pytest.approx(raw["paired"]["static"]["kl_low"], rel=1e-4)
    assert first["other_spend"] == [0.3, 0.45, 6]


def test_every_figure_is_made(result: dict[str, Any]) -> None:
    figures = figures_of(result)
    assert list(figures) == ["pareto", "violin", "adherence", "variability", "difficulty"]
    policy = figures["pareto"]["methods"][0]
    assert policy["name"] == "policy"
    assert len(policy["points"]) == 9
    assert len(policy["front"]["net"]["nll"]) < 9
    assert len(figures["violin"]["budgets"][0]["kl"]["random"]) == RANDOM_SCHEDULES
    assert figures["adherence"]["bits"][0][:2] == [0.375, 0.375]
    steps = figures["variability"]["budgets"][0]["bits"]
    assert steps["asked"] == 0.375
    assert steps["mean"][0] == pytest.approx(1.15 * 0.375)
    shares = [kind["share"] for kind in figures["difficulty"]["kinds"]]
    assert shares == sorted(shares, reverse=True)
    assert figures["difficulty"]["kinds"][0]["bits"] == pytest.approx(10.5 / 16, rel=1e-4)


def test_probes_join_when_they_were_measured(result: dict[str, Any]) -> None:
    level = {"level": 8.0, "change": 0.02, "low": 0.01, "high": 0.03, "kl": 0.1}
    result["pollution"] = {"axes": {"keep": [], "channels": [], "bits": [level]}}
    figures = figures_of(result)
    assert figures["pollution"]["axes"]["bits"][0]["level"] == 0.5


def test_a_result_without_parts_still_has_a_view(result: dict[str, Any]) -> None:
    assert result_view({})["figures"] == {}
    del result["difficulty"]
    for one in result["budgets"]:
        del one["paired"], one["random"], one["by_step"], one["adherence"]
        one["methods"]["policy"]["nll"] = math.nan
    view = result_view(result)
    assert set(view["figures"]) == {"pareto", "adherence"}
    assert view["baselines"] == []
    json.dumps(view, allow_nan=False)


def test_files_hold_every_number(result: dict[str, Any]) -> None:
    assert json.loads(json_text(result)) == result
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    assert len(rows) == 9 * 7
    static = next(row for row in rows if row["method"] == "static")
    raw = result["budgets"][0]
    assert float(static["gain"]) == raw["paired"]["static"]["gain"]
    assert float(static["spend_bits"]) == 6
    policy = next(row for row in rows if row["method"] == "policy")
    assert policy["gain"] == ""


def test_no_cell_is_a_formula(result: dict[str, Any]) -> None:
    methods = result["budgets"][0]["methods"]
    methods["=cmd()"] = methods.pop("emc")
    assert "\n0.3,0.45,6.0,'=cmd()" in csv_text(result)


def test_form_values_survive_the_way_to_the_engine_and_back() -> None:
    values = EVALUATE_FORM.values_of(EvaluationConfig())
    assert EVALUATE_FORM.config_of(values) == EvaluationConfig()
    assert values["budgets"].splitlines()[0] == "30 % attention · 45 % MLP · 6 bits"
    changed = values | {"baselines": "static, emc, random:3", "texts": 8, "windows": 3}
    config = EVALUATE_FORM.config_of(changed, corpus="x.txt")
    assert (config.baselines, config.corpus) == (("static", "emc", "random:3"), "x.txt")
    assert config.windows == 3
    saved = from_json(EvaluationConfig, json.loads(json.dumps(config.to_dict())))
    assert EVALUATE_FORM.values_of(saved) == changed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budgets": "0.5,0.6"}, "a number per axis"),
        ({"budgets": ""}, "no budget"),
        ({"budgets": None}, "budgets must be text"),
        ({"budgets": "0.5,0.6,99"}, "bits must be"),
        ({"budgets": "a · b · c"}, "must have a number per axis"),
        ({"baselines": "random"}, "needs a number of schedules"),
        ({"baselines": "best"}, "unknown baseline"),
        ({"texts": 1}, "texts must be"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"windows": 0}, "windows must be a whole number from 1 to 1,000,000, got 0"),
        ({"windows": None}, "windows must be a whole number from 1 to 1,000,000, got nothing"),
        ({"sampled": "yes"}, "sampled must be true or false"),
        ({"surprise": 1}, "the form has an unknown field 'surprise'"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EVALUATE_FORM.config_of(values)


def test_budgets_may_stand_on_lines_of_their_own() -> None:
    assert len(EVALUATE_FORM.config_of({"budgets": "0.5,0.6,8\n0.3,0.5,7\n"}).budgets) == 2


def test_policies_must_be_there() -> None:
    assert checked_policies(["b", "a", "b"], ["a", "b"], 3) == ["b", "a"]
    for chosen, words in (
        ([], "Choose a policy"),
        (["c"], "no policy 'c'"),
        ([7], "no policy"),
        (["a"] * (MAX_POLICIES + 1), "at most 6: 7"),
    ):
        with pytest.raises(ConfigError, match=words):
            checked_policies(chosen, ["a", "b"], MAX_POLICIES)


def test_a_point_of_the_front_has_every_cost_and_its_intervals(result: dict[str, Any]) -> None:
    for one in result["budgets"]:
        for method in one["methods"].values():
            method["bytes_per_token"] = 3e8 * method["net_keep_rate"]
        one["methods"]["policy"] |= {"nll_low": 3.0, "nll_high": 3.5}
    pareto = figures_of(result)["pareto"]
    assert pareto["costs"] == ["bytes", "net"]  # no FLOPs in this result
    policy = pareto["methods"][0]
    first = policy["points"][0]
    assert first["costs"]["bytes"] == pytest.approx(3 * first["costs"]["net"])
    assert first["nll"][1:] == [3.0, 3.5]
    assert first["kl"][1:] == [None, None]
    assert first["costs"]["flops"] is None
    assert policy["front"]["flops"] == {"nll": [], "kl": []}
