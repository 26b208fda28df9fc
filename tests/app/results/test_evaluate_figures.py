"""A result as figures, table and files: pure functions of the JSON."""

import copy
import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats import plain_cell
from app.pages.lab.jobs import EVALUATE_FORM
from app.results.figures import evaluation_verdict, figures_of, pareto_front, result_view
from app.results.files import csv_text
from app.results.shipped import shipped_record
from sol_core.evaluation.config import REFERENCE_BUDGETS, EvaluationConfig
from sol_core.fields import from_json
from sol_core.files.paths import SHIPPED_POLICY
from sol_core.policy.info import read_policy_info
from tests.support.job_samples import RANDOM_SCHEDULES, evaluation_result

POINT = st.tuples(st.floats(0, 1), st.floats(0, 10))


@pytest.fixture
def result():
    return evaluation_result(("mine", "other"))


@given(st.lists(POINT, max_size=30))
def test_every_point_is_on_the_front_or_beaten_by_it(points):
    front = pareto_front(points)
    assert all([x, y] in front or any(a <= x and b <= y for a, b in front) for x, y in points)
    spends, losses = [x for x, _ in front], [y for _, y in front]
    assert spends == sorted(set(spends))
    assert losses == sorted(set(losses), reverse=True)


def test_the_verdict_counts_sure_wins_alone(result):
    labels = {one["name"]: one["label"] for one in result_view(result)["baselines"]}
    assert labels["policy:other"] == "other"
    sure = sum(one["paired"]["static"]["kl_low"] > 0 for one in result["budgets"])
    head = evaluation_verdict(result, "static", "kl").head
    assert head.startswith(f"Policy mine is closer to the full model than static at {sure} of 9")


def test_methods_by_their_own_names_are_seen_as_those_of_schema_1(result):
    own = {"policy": "mine", "policy:other": "other"}
    gains = {"gain": "nll_gain", "low": "nll_low", "high": "nll_high"}
    newer = copy.deepcopy(result) | {"schema": 2}
    for budget in newer["budgets"]:
        for part in ("methods", "paired"):
            budget[part] = {own.get(name, name): one for name, one in budget[part].items()}
        for name, pair in budget["paired"].items():
            budget["paired"][name] = {gains.get(key, key): value for key, value in pair.items()}
    assert result_view(newer) == result_view(result)
    assert csv_text(newer).replace(",mine,", ",policy,").replace(
        ",other,", ",policy:other,"
    ) == csv_text(result)


def by_share(result):
    """The result as if its budgets had been shares of the bytes."""
    for place, one in enumerate(result["budgets"]):
        one["requested"] = {"share": 0.5 + place / 20, "bits": 16.0}
        one["adherence"] = {"gap": {"share": -0.01}, "episode": {"share": 0.02}}
        for method in one["methods"].values():
            read = {"bytes_share": 0.51, "bytes_per_token": 5e7, "dense_bytes_per_token": 1e8}
            method.update(read)
    return result


def test_a_result_by_share_says_what_was_asked_and_read(result):
    view = result_view(by_share(result))
    json.dumps(view, allow_nan=False)
    row = view["rows"]["static"][1]
    assert (row["asked_share"], row["shares"]) == (0.55, [0.51, 0.51])
    assert "adherence" not in view["figures"]
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    assert (rows[0]["requested_share"], rows[0]["bytes_share"]) == ("0.5", "0.51")
    assert rows[0]["requested_keep"] == ""


def test_every_figure_is_made(result):
    figures = figures_of(result)
    assert list(figures) == ["pareto", "violin", "adherence"]
    policy = figures["pareto"]["methods"][0]
    assert policy["name"] == "policy"
    assert len(policy["front"]["net"]["nll"]) < 9
    assert len(figures["violin"]["budgets"][0]["kl"]["random"]) == RANDOM_SCHEDULES
    assert figures["adherence"]["bits"][0][:2] == [0.375, 0.375]


def test_a_result_without_parts_still_has_a_view(result):
    assert result_view({})["figures"] == {}
    for one in result["budgets"]:
        del one["paired"], one["random"], one["adherence"]
        one["methods"]["policy"]["nll"] = math.nan
    view = result_view(result)
    assert set(view["figures"]) == {"pareto", "adherence"}
    assert view["baselines"] == []
    json.dumps(view, allow_nan=False)


def test_files_hold_every_number_and_no_formula(result):
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    assert len(rows) == 9 * 7
    static = next(row for row in rows if row["method"] == "static")
    raw = result["budgets"][0]
    assert float(static["nll_gain"]) == raw["paired"]["static"]["gain"]
    assert float(static["spend_bits"]) == 6
    policy = next(row for row in rows if row["method"] == "policy")
    assert policy["nll_gain"] == ""
    raw["methods"]["=cmd()"] = raw["methods"].pop("emc")
    assert "\n0.3,0.45,6.0,'=cmd()" in csv_text(result)
    # Full-width and small signs, which some spreadsheets read as the plain ones.
    for sign in "\uff1d\uff0b\uff0d\uff20\ufe66\n":
        assert plain_cell(f"{sign}1") == f"'{sign}1"
        assert plain_cell(f"1{sign}") == f"1{sign}"


def test_form_values_survive_the_way_to_the_engine_and_back():
    values = EVALUATE_FORM.values_of(EvaluationConfig())
    assert EVALUATE_FORM.config_of(values) == EvaluationConfig()
    assert values["budgets"].splitlines()[0] == "30 % attention · 45 % MLP · 6 bits"
    changed = values | {"baselines": "static, emc, random:3", "texts": 8, "windows": 3}
    config = EVALUATE_FORM.config_of(changed, corpus="x.txt")
    assert (config.baselines, config.corpus) == (("static", "emc", "random:3"), "x.txt")
    assert config.windows == 3
    shares = EVALUATE_FORM.config_of({"budgets": "50%; 62.5 % compute"})
    assert EVALUATE_FORM.values_of(shares)["budgets"] == "50 % compute\n62.5 % compute"
    saved = from_json(EvaluationConfig, json.loads(json.dumps(config.to_dict())))
    assert EVALUATE_FORM.values_of(saved) == changed


def test_the_shipped_evaluation_is_of_the_shipped_policy_and_whole():
    record = shipped_record("evaluate")
    result = record["result"]
    assert result["policy"] == "default"
    assert result["fingerprint"] == read_policy_info(SHIPPED_POLICY).fingerprint
    assert [tuple(one["requested"].values()) for one in result["budgets"]] == [
        budget.as_tuple() for budget in REFERENCE_BUDGETS
    ]
    view = result_view(result)
    assert view["figures"]["pareto"]["costs"] == ["bytes", "flops", "net"]
    head = evaluation_verdict(result).head  # as results.md says
    assert "closer to the full model than static at 5 of 9 budgets" in head
    for one in result["budgets"]:
        for method in one["methods"].values():
            assert method["kl_low"] <= method["kl"] <= method["kl_high"]
