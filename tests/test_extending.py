"""The modules of ``docs/extending.md`` run as they stand, from Python and on the command line."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from app.cli import main as cli
from sol_core import Action, generate
from tests.support.tiny_language_model import make_language_model, save_model_folder

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
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


def test_a_schedule_decides_a_run_from_python():
    careful = importlib.import_module("my_schedules").Careful()
    made = generate(make_language_model(), "Once upon a time", careful, max_new_tokens=12)
    assert {token.action for token in made.tokens} == {Action(), Action(0.3, 0.5, 8)}


def test_a_logits_processor_decides_a_draw():
    no_echo = importlib.import_module("no_echo").no_echo
    made = generate(make_language_model(), "abc", logits_processors=[no_echo], max_new_tokens=15)
    ids = [token.token_id for token in made.tokens]
    assert len(set(ids)) == len(ids)


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
