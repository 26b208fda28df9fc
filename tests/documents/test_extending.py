"""The modules of ``docs/extending.md`` run as they stand, from Python and on the command line."""

import ast
import importlib
import inspect
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sol_core
from app.cli import main as cli
from sol_core import (
    Action,
    ActionGrid,
    Budget,
    GenerationConfig,
    evaluate,
    generate,
    preset,
    score,
    train,
)
from sol_core.actions import PAGE_SCORERS
from sol_core.api.generating import GenerateOptions
from sol_core.errors import ConfigError
from tests.support.tiny_language_model import make_language_model, save_model_folder

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs" / "extending.md"
HALVES = """
from sol_core import Action


class Halves:
    def __init__(self, budget):
        self.keep, self.step = budget.keep_fraction, 0

    def __call__(self, observation):
        self.step += 1
        return Action(self.keep, 0.7, 8) if self.step % 2 else Action(1, 0.7, 8)
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The document's modules in the current folder."""
    modules = re.findall(
        r"^```python\n(# (\w+)\.py\n.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S
    )
    for text, name in modules:
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "halves.py").write_text(HALVES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("halves", *(name for _, name in modules))
    for name in names:  # another test's of the same name
        sys.modules.pop(name, None)
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


# Names that others define.
_OUTSIDE = {"datasets.Dataset", "MODULE:NAME", "model_type"}
_TOPS = "app", "kernels", "sol_core", "tests"
_CODE = [path for top in _TOPS for path in (PROJECT / top).rglob("*.py")]


def _definitions(path):
    """Names at the top of a module, with the syntax that defines them."""
    for node in ast.parse(path.read_text("utf-8")).body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
        for target in targets:
            if name := getattr(target, "name", None) or getattr(target, "id", None):
                yield name, node


def _fields(node):
    return {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}


def _of_library():
    """Names that ``sol_core`` exports, and the arguments of its functions."""
    values = (getattr(sol_core, name) for name in sol_core.__all__)
    calls = [value for value in values if inspect.isfunction(value)]
    names = [name for call in calls for name in inspect.signature(call).parameters]
    return {*sol_core.__all__, *names, *GenerateOptions.__annotations__}


def _is_path(name):
    wanted = name.rstrip("/")
    places = {str(place) for path in _CODE for place in (path, path.parent)}
    return any(place.endswith(f"/{wanted}") for place in places)


def _is_there(name, known, paths):
    if "/" in name or name.endswith(".py"):
        return _is_path(name)
    owner, _, field = name.partition(".")
    if owner.islower():  # a function or an argument: of the library, or of a file named beside it
        near = [path for path in _CODE if any(str(path).endswith(f"/{place}") for place in paths)]
        return not field and (
            owner in _of_library() or any(owner in dict(_definitions(path)) for path in near)
        )
    return owner in known and (not field or field in _fields(known[owner]))


def missing_names(document):
    """Names in a document's prose, in backticks, that no code has; by section."""
    known = {name: node for path in _CODE for name, node in _definitions(path)}
    prose = re.sub(r"^```.*?^```", "", document, flags=re.M | re.S)
    for section in prose.split("\n## "):
        spans = [span for span in re.findall(r"`([^`]+)`", section) if span not in _OUTSIDE]
        plain = [re.sub(r"[\"\[{].*|…", "", span) for span in spans]  # without values
        names = [name for span in plain for name in re.split(r"[(,)= ]+", span) if name]
        yield from (name for name in names if not _is_there(name, known, names))


def test_names_in_the_prose_exist():
    text = DOCUMENT.read_text("utf-8")
    assert list(missing_names(text)) == []
    wrong = "`bounds` of `cpu_kernels` in `grid.py`, `PageScorer.codes`, `kernels/none/`, `Nothing`"
    listed = ["bounds", "cpu_kernels", "PageScorer.codes", "kernels/none/", "Nothing"]
    assert list(missing_names(wrong)) == listed


def test_a_schedule_decides_a_run_from_python():
    careful = importlib.import_module("my_schedules").Careful()
    made = generate(make_language_model(), "Once upon a time", careful, max_new_tokens=12)
    assert {token.action for token in made.tokens} == {Action(), Action(0.3, 0.5, 8)}


def test_a_schedule_by_layer_is_run_and_scored():
    model, text = make_language_model(), "Once upon a time there was a fox."
    schedule = importlib.import_module("by_layer").rising(model.spec.num_layers)
    made = generate(model, text, schedule, max_new_tokens=4)
    (action,) = {token.action for token in made.tokens}
    assert action.keep_fraction == 0.5
    assert action.channels_by_layer == pytest.approx((0.4, 0.8))
    assert set(score(model, text, schedule).actions) == {action}


def test_a_logits_processor_decides_a_draw():
    no_echo = importlib.import_module("no_echo").no_echo
    made = generate(make_language_model(), "abc", logits_processors=[no_echo], max_new_tokens=15)
    ids = [token.token_id for token in made.tokens]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", ["my_scorer", "my_pruner"])
def test_a_scorer_and_a_pruner_are_handed_in_with_a_grid(name, tmp_path):
    model, grid = make_language_model(), importlib.import_module(name).GRID
    prompt, budget, own = "Once upon a time there was a fox.", Budget(0.3, 0.5), grid.own_parts[0]
    made, plain = (
        generate(model, prompt, None, budget, max_new_tokens=8, config=GenerationConfig(grid=given))
        for given in (grid, ActionGrid())
    )
    assert made.spend.as_tuple() == plain.spend.as_tuple() == budget.as_tuple()
    assert [token.cost for token in made.tokens] != [token.cost for token in plain.tokens]
    surprisals = [[token.surprisal for token in run.tokens] for run in (made, plain)]
    assert surprisals[0] != surprisals[1], "other pages, other channels"
    with pytest.raises(ConfigError, match="no damage was measured"):
        generate(model, prompt, None, Budget.share(0.9), config=GenerationConfig(grid=grid))
    halves = importlib.import_module("halves").Halves
    texts = [" and ".join(str(first + step) for step in range(60)) for first in range(40)]
    few = {"texts": 2, "context": 24, "steps": 4, "windows": 1, "baselines": ("static",)}
    result = evaluate(
        model,
        {"halves": halves},
        corpus=texts,
        grid=grid,
        data_dir=tmp_path,
        budgets=(budget,),
        **few,
    )
    assert own.name in json.dumps(result["grid_levels"])
    assert result["budgets"][0]["methods"]["halves"]["kl"] > 0
    with pytest.raises(ConfigError, match=f"cannot hold {own.name}"):
        train(model, tmp_path / "run", preset("quick"), grid=grid)


def test_objects_have_names_of_their_own():
    quest = PAGE_SCORERS["quest"]
    assert ActionGrid(page_scorer=quest) == ActionGrid(), "a built-in one is its name"
    other = importlib.import_module("my_scorer").GRID.scorer
    with pytest.raises(ConfigError, match="a name that is taken"):
        ActionGrid(page_scorer=replace(other, name="int4"))
    with pytest.raises(ConfigError, match="one of quest, int4"):
        ActionGrid(page_scorer=len)


def test_a_schedule_is_evaluated_at_its_own_spend_beside_static(folder, capsys, monkeypatch):
    monkeypatch.setenv("SOL_DATA_DIR", str(folder / "data"))
    save_model_folder(folder / "model", "llama3-rope", starts=False)
    texts = [" and ".join(str(first + step) for step in range(60)) for first in range(300)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "counting.jsonl").write_text(lines)
    asked = ["--model", str(folder / "model"), "--corpus", str(folder / "counting.jsonl")]
    asked += ["--dtype", "float32", "--texts", "4", "--context", "24", "--steps", "8", "--json"]
    asked += ["--budgets", "0.4,0.7,8;0.6,0.7,8", "--baselines", "static"]
    assert cli.main(["evaluate", "halves:Nothing", *asked]) == 2
    assert "has no attribute 'Nothing'" in capsys.readouterr().err
    more = ["--schedule", "my_schedules:Careful", "--out", "out"]
    assert cli.main(["evaluate", "halves:Halves", *more, *asked]) == 0
    result = json.loads(capsys.readouterr().out)
    harsh, mild = [budget["methods"] for budget in result["budgets"]]
    own, other = "halves:Halves", "my_schedules:Careful"
    assert harsh[own]["spend"] == pytest.approx({"keep": 0.7, "channels": 0.7, "bits": 8})
    assert mild[own]["spend"]["keep"] == pytest.approx(0.8)
    for methods in (harsh, mild):
        assert methods[own]["kl"] > 0
        assert methods[other]["kl"] >= 0
        for name, spent in methods[own]["spend"].items():
            assert methods["static"]["spend"][name] == pytest.approx(spent, abs=1e-6)
    assert result["made_with"]["dtype"] == "float32"
    assert json.loads((folder / "out" / "result.json").read_text()) == result
    losses = (folder / "out" / "per_text.csv").read_text().splitlines()
    assert len(losses) == 1 + 4 * 2 * 4, "texts, budgets, methods"
    cases = [
        {
            "input_ids": list(range(9)),
            "context_len": 4,
            "page_size": 8,
            "schedules": [[[1, 1, 16]] * 4],
        }
    ]
    (folder / "cases.json").write_text(json.dumps(cases))
    scored = ["score", "cases.json", "--schedule", "halves:Halves", "--keep", "0.5", *asked[:2]]
    assert cli.main([*scored, "--dtype", "float32", "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)
    assert case["actions"] == [[[0.5, 0.7, 8], [1.0, 0.7, 8]] * 2]
