"""``evaluate``: its JSON, its files, its table, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sol_core.policy
from app.host.paths import DataDir
from sol_core.actions import ActionGrid, Budget
from sol_core.errors import SolError
from sol_core.progress import WorkFinished, WorkProgress
from tests.app.command_line import RunCommand, one_line


def result_of(name: str, budgets: tuple[Budget, ...]) -> dict[str, Any]:
    """A small result of the contract's shape."""

    def scores(nll: float, budget: Budget) -> dict[str, Any]:
        axes = dict(zip(("keep", "channels", "bits"), budget.as_tuple(), strict=True))
        numbers = {"nll": nll, "kl": nll / 10, "perplexity": 2.0, "net_keep_rate": 0.5}
        if budget.bytes_share is not None:
            numbers |= {"bytes_share": 0.61, "bytes_per_token": 61e6}
        return {**numbers, "spend": axes}

    def asked(budget: Budget) -> dict[str, Any]:
        if budget.bytes_share is not None:
            return {"share": budget.bytes_share, "bits": budget.bit_width}
        return dict(scores(0, budget)["spend"])

    return {
        "schema": 1,
        "policy": name,
        "corpus": "text.txt",
        "scored_tokens": 64,
        "elapsed_s": float("nan"),
        "budgets": [
            {
                "requested": asked(budget),
                "adherence": {"gap": {"share": 0.01}, "episode": {"share": 0.02}},
                "methods": {
                    "static": scores(2.5, budget),
                    "dense": scores(2.0, Budget() if budget.bytes_share is None else budget),
                    "policy": scores(2.25, budget),
                },
                "paired": {
                    "static": {
                        **{"gain": 0.25, "low": 0.1, "high": 0.4, "win_rate": 0.75},
                        **{"kl_gain": 0.03, "kl_low": 0.01, "kl_high": 0.05},
                    }
                },
            }
            for budget in budgets
        ],
    }


@pytest.fixture
def evaluated(
    monkeypatch: pytest.MonkeyPatch, data_dir: DataDir, tmp_path: Path
) -> list[dict[str, Any]]:
    """A stand-in evaluation, two stored policies and a text; returns what it was given."""
    calls: list[dict[str, Any]] = []

    def evaluate(
        model: Any, policy_folders: Mapping[str, Path], config: Any, **options: Any
    ) -> Iterator[Any]:
        calls.append({"folders": dict(policy_folders), "config": config, **options})
        yield WorkProgress(0.5, "rollouts", 3.0)
        (name,) = policy_folders
        yield WorkFinished(result_of(name, config.budgets))

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    monkeypatch.setattr("sol_core.models.loading.load_language_model", lambda name, **_: name)
    monkeypatch.setattr("sol_core.models.tuning.tune", lambda *_: None)
    info = SimpleNamespace(grid=ActionGrid())
    monkeypatch.setitem(vars(sol_core.policy), "read_policy_info", lambda folder: info)
    for folder in (data_dir.policies / "p", tmp_path / "mine"):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (tmp_path / "text.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    return calls


def test_evaluate_prints_exactly_the_result(
    run: RunCommand, evaluated: list[dict[str, Any]], data_dir: DataDir, tmp_path: Path
) -> None:
    done = run(
        *["evaluate", "p", "--corpus", "text.txt", "--budgets", "0.5,0.6,8;0.3,0.5,7"],
        *["--baselines", "static,random:10", "--texts", "128", "--context", "256"],
        *["--steps", "16", "--seed", "3", "--json", "--out", "results"],
    )
    assert (done.status, done.err) == (0, " 50 %  rollouts, about 3 s left\n")
    result = json.loads(done.out)
    assert result["elapsed_s"] is None, "NaN is no JSON"
    (call,) = evaluated
    assert call["folders"] == {"p": data_dir.policies / "p"}
    assert call["data_dir"] == data_dir.root
    config = call["config"]
    assert config.budgets == (Budget(0.5, 0.6, 8.0), Budget(0.3, 0.5, 7.0))
    assert config.baselines == ("static", "random:10")
    assert (config.texts, config.context, config.steps, config.seed) == (128, 256, 16, 3)
    assert (config.sampled, config.pollution) == (False, False)
    assert config.corpus == str(tmp_path / "text.txt")
    assert json.loads((tmp_path / "results" / "result.json").read_text()) == result
    with (tmp_path / "results" / "result.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["method"] for row in rows) == sorted(["policy", "dense", "static"] * 2)
    found = {(row["requested_keep"], row["method"]): row for row in rows}
    assert (found["0.5", "static"]["nll"], found["0.5", "static"]["gain"]) == ("2.5", "0.25")
    assert found["0.5", "policy"]["gain"] == ""
    assert {row["spend_bits"] for row in rows[3:]} >= {"7.0"}


def test_shares_after_several_contexts_are_an_evaluation_each(
    run: RunCommand,
    evaluated: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lowest(context: int) -> float:
        return 0.6 if context < 1000 else 0.3

    monkeypatch.setattr(
        "sol_core.policy.files.locate.read_policy_info",
        lambda _: SimpleNamespace(grid=ActionGrid()),
    )
    monkeypatch.setattr("sol_core.budgets.mix_table", lambda *_: SimpleNamespace(lowest=lowest))
    asked = ["evaluate", "p", "--budgets", "50%,65%", "--context", "256, 2048", "--out", "results"]
    done = run(*asked, "--json")
    assert done.status == 0
    assert "after 256 tokens at least 60 % of the bytes are read; left out there: 50 %" in done.err
    assert [len(one["budgets"]) for one in json.loads(done.out)] == [1, 2]
    for call, context in zip(tuple(evaluated), (256, 2048), strict=True):
        assert call["config"].context == context
        assert Budget.share(0.65) in call["config"].budgets
        folder = tmp_path / "results" / f"context-{context}"
        assert run("evaluate", "--config", str(folder / "evaluation.toml")).status == 0
        assert evaluated.pop()["config"] == call["config"]
    text = run(*asked).out
    assert text.count("budget  65 % compute") == 2
    assert re.search(r"static .* 61\.0 % +61\.0 .* \+0\.0300 \(\+0\.0100 to \+0\.0500\)", text)


def test_evaluate_for_people(
    run: RunCommand, evaluated: list[dict[str, Any]], tmp_path: Path
) -> None:
    done = run("evaluate", "./mine", "--sampled", "--pollution")
    assert done.status == 0
    (call,) = evaluated
    assert call["folders"] == {"mine": tmp_path / "mine"}
    config = call["config"]
    assert (config.sampled, config.pollution) == (True, True)
    assert len(config.budgets) == 9
    assert re.search(r"static +2\.5000 +0\.2500 .* \+0\.2500 \(\+0\.1000 to \+0\.4000\)", done.out)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["nobody"], 1, "no policy 'nobody'"),
        (["p", "--budgets", "0.5,0.6"], 2, "a number per axis"),
        (["p", "--budgets", "0.05,0.6,8"], 2, "0.05"),
        (["p", "--budgets", "0.5,0.6,3"], 2, "bits = 3 is outside"),
        (["p", "--budgets", ""], 2, "no budget"),
        (["p", "--budgets", "50%;0.5,0.6,8"], 2, "in two runs"),
        (["p", "--context", "256,long"], 2, "a number of tokens"),
        (["p", "--context", "256,256"], 2, "twice"),
        (["p", "--baselines", "magic"], 2, "magic"),
        (["p", "--baselines", "random:0"], 2, "random:0"),
        (["p", "--texts", "0"], 2, "texts"),
        (["p", "--steps", "0"], 2, "steps"),
        (["p", "--seed", "-1"], 2, "seed"),
        (["p", "--texts", "few"], 2, "few"),
        (["p", "--corpus", "none.txt"], 1, "no such file"),
        (["p", "--corpus", ""], 1, "no such file"),
        (["p", "--out", "text.txt"], 1, "is a file"),
        ([], 2, "POLICY"),
    ],
)
def test_evaluate_refuses(
    run: RunCommand, evaluated: list[Any], arguments: list[str], status: int, named: str
) -> None:
    done = run("evaluate", *arguments, "--json")
    assert named in one_line(done)
    assert done.status == status
    assert evaluated == []


@pytest.mark.parametrize("name", ["owner/name", "owner/name.v1:en.noblocklist:test:body"])
def test_a_hub_data_set_is_named_with_its_parts(
    run: RunCommand, evaluated: list[dict[str, Any]], name: str
) -> None:
    assert run("evaluate", "p", "--corpus", name, "--json").status == 0
    assert evaluated[0]["config"].corpus == name


def test_errors_of_the_evaluation_pass(
    run: RunCommand, evaluated: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*_: Any, **__: Any) -> Iterator[Any]:
        raise SolError("this policy was made for another model")
        yield

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    assert "another model" in one_line(run("evaluate", "p", "--json"))


def test_a_file_says_everything_and_options_come_on_top(
    run: RunCommand, evaluated: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = ["evaluate", "p", "--corpus", "text.txt", "--budgets", "0.5,0.6,8;0.3,0.5,7"]
    run(*first, "--baselines", "static,emc", "--windows", "3", "--pollution", "--out", "a")
    text = (tmp_path / "a" / "evaluation.toml").read_text()
    assert re.search(r"# written by version .*; Python .*, torch \d", text)
    assert "fingerprint" in text
    run("evaluate", "--config", "a/evaluation.toml", "--out", "b")
    assert (tmp_path / "b" / "evaluation.toml").read_text() == text
    run("evaluate", "--config", "a/evaluation.toml", "--seed", "5", "--budgets", "0.9,0.9,9")
    one, again, changed = (call["config"] for call in evaluated)
    assert one == again
    assert changed == dataclasses.replace(one, seed=5, budgets=(Budget(0.9, 0.9, 9.0),))
    assert all(list(call["folders"]) == ["p"] for call in evaluated)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("texts = 8", "POLICY"),
        ('policy = "p"\ntext = 8', "text"),
        ('policy = "p"\ntexts = "many"', "texts"),
        ('policy = "p"\nbudgets = [{ keep = 1 }]', "keep"),
        ('policy = "p"\ncorpus = "none.txt"', "no such file"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused(
    run: RunCommand, evaluated: list[Any], tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    assert named in one_line(run("evaluate", "--config", "bad.toml"))
    assert evaluated == []


def test_off_a_terminal_progress_is_a_line_for_every_tenth(
    run: RunCommand, evaluated: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(_: Any, policies: Any, config: Any, **__: Any) -> Iterator[Any]:
        for part in range(1, 201):
            yield WorkProgress(part / 200, f"text {part} of 200", None)
        yield WorkFinished(result_of("p", config.budgets))

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    lines = run("evaluate", "p").err.splitlines()
    assert lines[:2] == ["  0 %  text 1 of 200", " 10 %  text 20 of 200"]
    assert lines[-1] == "100 %  text 200 of 200"
    assert len(lines) == 11
