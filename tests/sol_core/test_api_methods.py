"""Measuring from Python: methods, texts and settings as objects, results that say how they were."""

import json
import subprocess
from dataclasses import replace
from hashlib import sha256
from inspect import getsource
from typing import ClassVar

import pytest
import torch

from app.cli.commands.evaluate import as_table
from app.results.figures import result_view
from kernels.cpu.threads import kernel_threads
from sol_core import (
    Action,
    ActionGrid,
    Budget,
    EvaluationConfig,
    GrpoConfig,
    InspectionConfig,
    TasksConfig,
    TrainConfig,
    count_tokens,
    evaluate,
    generate,
    inspect,
    load_policy,
    preset,
    score,
    tasks,
    train,
    what_if,
)
from sol_core.actions import GRIDS, grid_record
from sol_core.budgets.row_schedules import schedule_for_sequence
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.errors import ConfigError, CorpusError, DownloadError, PolicyError, PolicyNotKeptError
from sol_core.fields import from_json
from sol_core.generation.schedules import schedule_configs, with_grid
from sol_core.models import provenance
from sol_core.progress import WorkFinished
from sol_core.training.config import WarmStartConfig
from sol_core.training.run_state import RunState
from sol_core.training.trainer import check_kept
from tests.support.tiny_policies import SERVED, save_tiny_policy
from tests.support.tiny_training import tiny_train_config

BUDGET = Budget(0.5, 0.7, 8)
TEXT = "Once upon a time there was a fox who lived in a wood and ate berries all day long. "
TEXTS = [f"{number} " + TEXT for number in range(60)]
SMALL = {"texts": 3, "context": 16, "steps": 6, "baselines": ["static"]}

pytestmark = pytest.mark.usefixtures("one_thread")


class Careful:
    """Everything at every third step, else the budget."""

    made: ClassVar[list[Budget]] = []

    def __init__(self, budget):
        self.budget, self.step = budget, 0
        self.made.append(budget)

    def __call__(self, observation):
        self.step += 1
        if self.step % 3 == 0:
            return Action()
        return Action(self.budget.keep_fraction, self.budget.channel_keep_ratio, 8)


def rule(observation):
    return Action(0.4, 0.6, 8)


def asked(observation, budget):
    return Action(budget.keep_fraction, budget.channel_keep_ratio, 8)


@pytest.fixture
def policy(model, tmp_path):
    return load_policy(save_tiny_policy(model, tmp_path / "tiny"), model)


def test_methods_of_all_kinds_are_measured_at_the_first_ones_spend(model, policy, tmp_path):
    methods = {"mine": policy, "careful": Careful, "rule": rule, "asked": asked}
    quiet = {"on_progress": lambda *_: None, "data_dir": tmp_path}
    Careful.made.clear()
    result = evaluate(model, methods, corpus=TEXTS, budgets=[BUDGET], **SMALL, **quiet)
    assert result["policies"] == list(methods)
    (budget,) = result["budgets"]
    assert set(budget["methods"]) == {*methods, "static", "dense"}
    spent = Budget(*budget["methods"]["mine"]["spend"].values())
    assert set(Careful.made) == {spent}
    assert len(Careful.made) == 3, "an instance per sequence"
    assert budget["methods"]["rule"]["spend"]["keep"] == pytest.approx(0.4)
    assert budget["methods"]["asked"]["spend"]["keep"] == pytest.approx(spent.keep_fraction)

    stored = json.loads((tmp_path / "tiny" / "config.json").read_text())
    assert result["weights_sha256"] == {"mine": stored["weights_sha256"]}
    own = {"careful": Careful, "rule": rule, "asked": asked}
    assert result["source_sha256"] == {
        name: sha256(getsource(method).encode()).hexdigest() for name, method in own.items()
    }
    assert (result["grid"], from_json(ActionGrid, result["grid_levels"])) == ("own", SERVED)
    assert result["baselines"] == ["static"]
    made = result["made_with"]
    assert (made["dtype"], made["device"], made["threads"]) == ("float32", "cpu", kernel_threads())
    assert {"torch", "python", "sol-explorer"} <= set(made["versions"])
    assert made["processor"]
    assert made["kernels"]
    assert made["command"]

    rows = [row for row in result.per_text if row["method"] == "careful"]
    assert [row["text"] for row in rows] == [0, 1, 2]
    assert rows[0]["asked_keep"] == 0.5
    mean = sum(row["kl"] for row in rows) / 3
    assert mean == pytest.approx(budget["methods"]["careful"]["kl"])
    pandas = pytest.importorskip("pandas")
    table = result.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 3 * 6

    named = evaluate(
        model, methods, corpus=TEXTS, budgets=[BUDGET], spend_of="rule", **SMALL, **quiet
    )
    assert named["policy"] == "rule"
    static = named["budgets"][0]["methods"]["static"]["spend"]
    assert static == pytest.approx({"keep": 0.4, "channels": 0.6, "bits": 8})


def test_a_method_whose_spend_missed_is_not_compared(model, policy, tmp_path):
    pandas = pytest.importorskip("pandas")
    quiet = {"on_progress": lambda *_: None, "data_dir": tmp_path}
    methods = {"asked": asked, "rule": rule}
    result = evaluate(model, methods, corpus=TEXTS, budgets=[BUDGET], **SMALL, **quiet)
    (budget,) = result["budgets"]
    assert {name: made["matched"] for name, made in budget["methods"].items()} == {
        **{"asked": True, "rule": False, "static": True, "dense": False}
    }
    assert set(budget["paired"]["rule"].values()) == {None}, "no gain and no verdict"
    assert budget["paired"]["static"]["nll_verdict"] == "no difference shown"
    assert budget["paired"]["dense"]["kl_gain"] <= 0, "the reference"
    table = result.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert not table[table.method == "rule"].matched.any()
    assert table[table.method == "asked"].matched.all()
    assert "not compared: another spend" in as_table(result)
    shown = result_view(result)["rows"]["policy:rule"][0]
    assert shown["nll"]["gain"] == [None] * 3
    shares = {name: made["bytes_share"] for name, made in budget["methods"].items()}
    assert shares["dense"] == 1 > shares["static"] > 0, "counted at budgets of axes, too"
    assert shares["static"] == pytest.approx(shares["asked"], abs=1e-3)
    only = evaluate(model, {"rule": rule}, corpus=TEXTS, budgets=[BUDGET], **SMALL, **quiet)
    assert only["budgets"][0]["recovered"]["kl"] is not None, "static spends what rule does"


def test_schedules_of_ones_own_are_taken_everywhere(model, policy):
    for given, budget in ((Careful, BUDGET), (Careful(BUDGET), None), (asked, BUDGET)):
        made = generate(model, TEXT, given, budget, max_new_tokens=4)
        scored = score(model, TEXT, given, budget)
        assert made.tokens[0].action == scored.actions[0] == Action(0.5, 0.7, 8)
    with pytest.raises(ConfigError, match=r"the schedule Careful must take .*missing a req"):
        generate(model, TEXT, Careful, max_new_tokens=4)
    seen = inspect(
        model, TEXT, {"mine": policy, "careful": Careful, "rule": rule}, BUDGET, max_tokens=24
    )
    assert seen.start.rows == ("dense", "policy:mine", "policy:careful", "policy:rule")
    assert seen.tokens[2].rows[2].action == Action()
    assert {token.rows[3].action for token in seen.tokens} == {Action(0.4, 0.6, 8)}
    assert seen.end.num_tokens == len(seen.tokens) == 23
    pandas = pytest.importorskip("pandas")
    table = seen.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 23 * 4
    careful = table[table.method == "policy:careful"]
    assert careful.kl.tolist() == [token.rows[2].kl for token in seen.tokens]
    assert careful.bits.tolist()[:3] == [8, 8, 16]
    assert inspect(model, TEXT, "static", BUDGET, max_tokens=12).start.rows == ("dense", "static")
    for methods in ({"asked": asked, "mine": policy}, {"mine": policy, "asked": asked}):
        schedules, find = schedule_configs(methods, Budget.share(0.8))
        grid = with_grid(InspectionConfig(schedules), find).grid
        assert grid == policy.info.grid, "a policy's own, in any order"
        assert [schedule.budget.bytes_share for schedule in schedules] == [0.8, 0.8]
    view = what_if(model, TEXT, 4, Careful, BUDGET)
    assert view.taken.action == Action(0.5, 0.7, 8)
    assert what_if(model, TEXT, 4).taken.action == Action()
    assert what_if(model, TEXT, 20, without=(1,)).without.pages == (1,)


def test_tokens_are_counted_as_they_are_scored(model):
    assert count_tokens(model, TEXT) == len(score(model, TEXT).nll) + 1
    with pytest.raises(ConfigError, match="the text must be text"):
        count_tokens(model, 3)


def test_tasks_are_measured_in_one_call(model, policy, tmp_path, monkeypatch):
    asked = []

    def run_tasks(model, name, given, config, *, data_dir, grid):
        asked.append((name, given, config, data_dir, grid))
        yield WorkFinished({"policy": name})

    monkeypatch.setattr("sol_core.accuracy.runner.run_tasks", run_tasks)
    quiet = {"on_progress": lambda *_: None, "data_dir": tmp_path}
    limited = TasksConfig(("piqa",), limit=10)
    assert tasks(model, policy, tasks=("piqa",), limit=10, **quiet) == {"policy": "tiny"}
    assert tasks(model, {"mine": rule}, limited, grid=GRIDS["paper"], **quiet)["policy"] == "mine"
    assert asked == [
        ("tiny", policy, limited, tmp_path, None),
        ("mine", rule, limited, tmp_path, GRIDS["paper"]),
    ]
    with pytest.raises(ConfigError, match="takes one method, got 2"):
        tasks(model, {"a": rule, "b": rule}, **quiet)


def test_at_a_share_of_the_bytes_a_schedule_gets_the_levels_of_the_best_mix():
    class Mixes:
        def budget_per_axis(self, budget, context):
            assert (budget.bytes_share, context) == (0.6, 9)
            return Budget(0.3, 0.9, budget.bit_width)

    Careful.made.clear()
    seen = StepObservation(0, torch.tensor([1]), (8,))
    made = schedule_for_sequence(Careful, Budget.share(0.6, 8), Mixes())
    assert [made(seen) for _ in range(3)] == [Action(0.3, 0.9, 8)] * 2 + [Action()]
    assert Careful.made == [Budget(0.3, 0.9, 8)], "one a sequence"
    assert schedule_for_sequence(rule, Budget.share(0.6), Mixes())(seen) == rule(seen)


def test_a_corpus_is_whatever_holds_text(model, tmp_path):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "some.txt"
    path.write_text(" ".join(TEXTS))
    whole = datasets.Dataset.from_dict({"text": TEXTS, "id": list(range(60))})
    quiet = {"on_progress": lambda *_: None, "data_dir": tmp_path}

    def fingerprint(corpus):
        found = evaluate(model, rule, corpus=corpus, budgets=[BUDGET], **SMALL, **quiet)
        return str(found["corpus_fingerprint"])

    assert fingerprint(TEXTS) == fingerprint(tuple(TEXTS)) == fingerprint(whole)
    assert fingerprint(path) == fingerprint(str(path)) == fingerprint(" ".join(TEXTS))
    assert fingerprint([path, "More."]) == fingerprint([" ".join(TEXTS), "More."])
    for wrong, words in (
        (3, "corpus must be a name, .* got 3"),
        ([], "a list without text"),
        (["a", 3], r"corpus\[1\] must be text, or the path of a file, got 3"),
        (datasets.DatasetDict({"train": whole}), "got a DatasetDict"),
    ):
        with pytest.raises(ConfigError, match=words):
            fingerprint(wrong)
    with pytest.raises(CorpusError, match="no column"):
        fingerprint(datasets.Dataset.from_dict({"id": [1]}))


def test_settings_are_objects_and_wrong_names_find_the_nearest(model):
    assert (
        preset("quick", grpo={"updates": 3}).grpo
        == preset("quick", grpo=GrpoConfig(updates=3)).grpo
    )
    assert preset("standard", grpo={"updates": 3}).grpo.learning_rate == 3e-4, "the preset's"
    assert EvaluationConfig(budgets=[BUDGET], baselines=["dense"]).budgets == (BUDGET,)
    assert "updates: policy updates" in str(GrpoConfig.__doc__)
    calls = {
        "did you mean grpo": lambda: preset("quick", grop={}),
        "GrpoConfig .* mean updates": lambda: preset("quick", grpo={"update": 3}),
        "TrainConfig .* mean corpus": lambda: TrainConfig(corpos="builtin"),
        "mean max_new_tokens": lambda: generate(model, "x", max_tokens=3),
        "corpus must be a name or a path .* got a list": lambda: EvaluationConfig(corpus=["a"]),
        "score.. takes no 'ctx'; did you mean context": lambda: score(model, "x", ctx="y"),
        "what_if.. .* mean budget": lambda: what_if(model, TEXT, 3, budgt=BUDGET),
        "load_policy.. .* mean grid": lambda: load_policy("default", model, grd="paper"),
        "Budget has no setting 'keep'; did you mean keep_fraction": lambda: Budget(keep=0.5),
        r"without\[0\] must be the number of a page": lambda: what_if(model, TEXT, 3, without="1"),
        "one schedule, not several": lambda: what_if(model, TEXT, 3, {"a": rule, "b": rule}),
        "no record 1; it has": lambda: generate(model, "x", record=[1]),
        "no method can be called emc": lambda: evaluate(model, {"a": rule, "emc": rule}),
    }
    for words, call in calls.items():
        with pytest.raises(ConfigError, match=words):
            call()


def test_a_training_that_is_of_no_use_is_said_and_not_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(RunState, "elapsed_s", property(lambda _: 60.0))  # past the limit below
    config = tiny_train_config(
        tmp_path, warm_start=WarmStartConfig(texts=0), grpo=GrpoConfig(updates=5, windows=1)
    )
    options = {"data_dir": tmp_path / "data", "on_progress": lambda *_: None}
    options["time_limit_minutes"] = 0.01
    with pytest.raises(PolicyNotKeptError, match="before anything was learnt"):
        train(model, tmp_path / "run", config, **options)
    kept = train(model, tmp_path / "run", config, **options, allow_untrained=True)
    assert kept.info.summary["made_with"]["dtype"] == "float32"
    assert kept.info.summary["made_with"]["command"]
    summary = {"updates": 1, "warm_steps": 0, "held_out": {"kl": 0.2, "kl_static": 0.1}}
    with pytest.raises(PolicyNotKeptError, match="no better than static on its held-out text"):
        check_kept(summary)
    check_kept(summary | {"held_out": {"kl": 0.1, "kl_static": 0.2}})


def test_a_folder_that_cannot_be_is_said(model, policy, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "inside", tmp_path):
        with pytest.raises(ConfigError, match=r"a file|cannot make the folder|other files"):
            train(model, folder, context=32, last_context=64, data_dir=tmp_path)
    for folder in (file, file / "inside"):
        with pytest.raises(PolicyError, match="cannot make the folder"):
            policy.save_pretrained(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="the Hub did not give or take me/mine"):
        policy.push_to_hub("me/mine")


def test_a_result_names_the_commit_and_a_grid_that_no_name_describes(tmp_path, monkeypatch):
    for name, grid in GRIDS.items():
        assert grid_record(grid) == {"grid": name}
    elsewhere = replace(GRIDS["default"], quant_site="mlp_input")
    record = grid_record(elsewhere)
    assert (record["grid"], from_json(ActionGrid, record["grid_levels"])) == ("default", elsewhere)

    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    assert provenance.commit.__wrapped__() is None, "an installed copy has none"
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / "file").write_text("a")
    for words in (("init",), ("add", "file"), ("commit", "-m", "a"), ("tag", "v1")):
        subprocess.run((*git, *words), check=True, capture_output=True)
    asked = (*git, "rev-parse", "HEAD")
    head = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    assert provenance.commit.__wrapped__() == head
    (tmp_path / "file").write_text("b")
    assert provenance.commit.__wrapped__() == f"{head}-dirty"
