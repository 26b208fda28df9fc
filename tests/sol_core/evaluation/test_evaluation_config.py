"""Evaluation settings: round trips, and messages that name the bad part."""

import json

import pytest

from sol_core.actions import Budget
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig, parse_budgets, parse_names
from sol_core.fields import from_json


def test_a_configuration_survives_json():
    config = EvaluationConfig(
        corpus="a.txt",
        budgets=(Budget(0.5, 0.6, 8), Budget(0.3, 0.5, 7.5)),
        baselines=("static", "random:3", "emc"),
        texts=20,
    )
    record = json.loads(json.dumps(config.to_dict()))
    assert from_json(EvaluationConfig, record) == config


def test_budgets_and_shares_as_the_command_line_gives_them():
    axes = (Budget(0.5, 0.6, 8), Budget(0.3, 0.5, 7))
    assert parse_budgets(" 0.5, 0.6 ,8 ;0.3,0.5,7.0; ") == axes
    shares = tuple(map(Budget.share, (0.5, 0.65, 0.8)))
    assert parse_budgets("50%,65%,80%") == parse_budgets(" 50% ; 65 %, 80.0%") == shares


def test_baselines_as_the_command_line_gives_them():
    names = ("static", "random:10", "emc", "dac", "dense")
    assert parse_names("static, random:10,emc,dac,dense, ") == names
    config = EvaluationConfig(baselines=parse_names("dac,random:7"))
    assert (config.num_random, config.signals) == (7, ("dac",))


def budgets(text):
    return EvaluationConfig(budgets=parse_budgets(text))


def baselines(text):
    return EvaluationConfig(baselines=parse_names(text))


def read(record):
    return from_json(EvaluationConfig, record)


@pytest.mark.parametrize(
    ("reader", "given", "message"),
    [
        (budgets, "50%,0.65", r'written as in "50%".*got "0.65"'),
        (budgets, "50%;0.5,0.6,8", "in two runs"),
        (budgets, "", "no budget given; write keep,channels,bits"),
        (budgets, "0.5,0.6,8;0.3,0.5", r'budget "0.3,0.5" must be a number per axis.*got 2'),
        (budgets, "0.5,x,8", r'channels in budget "0.5,x,8" must be a number, got "x"'),
        (budgets, "0.5,0.6,8;0,0.5,7", r'budget "0,0.5,7": attention kept must be above 0'),
        (baselines, "static,best", '"best"; allowed: static, dense'),
        (baselines, "random", 'baseline "random" needs a number of schedules from 1 to 1000'),
        (baselines, "random:3,random:5", "baseline random is there twice"),
        (read, {"texts": 1}, "texts must be a whole number from 2 to 1,000,000, got 1"),
        (read, {"corpus": " "}, "corpus must be"),
        (read, {"budgets": []}, "at least one budget"),
        (read, {"budgets": [{"keep_fraction": 0.5}] * 2}, "one is there twice"),
        (read, {"budgets": [{"bit_width": 5 + i / 10} for i in range(65)]}, "at most 64"),
        (read, {"baselines": ["greedy"]}, 'unknown baseline "greedy"'),
        (read, {"pollution": True}, "pollution is a setting of earlier releases"),
    ],
)
def test_what_is_wrong_is_named(reader, given, message):
    with pytest.raises(ConfigError, match=message):
        reader(given)
