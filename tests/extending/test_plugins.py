"""The modules of docs/extending.md: registered, trained with, stored by name, refused without."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch

from app.cli import main as cli
from app.pages.train.form import form_groups
from sol_core import Action, ActionGrid, Budget, extensions, generate, load_policy, train
from sol_core.actions import DENSE, MLP_PRUNERS, PAGE_SCORERS, Mechanisms
from sol_core.config import ScheduleKind
from sol_core.corpus import load_corpus
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.errors import ConfigError, SolError
from sol_core.fields import from_json
from sol_core.policy import PolicyConfig
from sol_core.policy.few_rows import FewRowPolicy
from sol_core.policy.inputs import observation_row
from sol_core.training import GrpoConfig, TrainConfig, WarmStartConfig
from sol_core.training.rewards import rewards_of
from tests.support.tiny_language_model import make_language_model, save_model_folder
from tests.support.tiny_training import tiny_train_config

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("no_echo", "recurrent", "parts", "mechanisms", "my_schedules")
TABLES = (
    extensions.NETWORKS,
    extensions.OBSERVATIONS,
    extensions.REWARDS,
    extensions.CORPORA,
    extensions.SCHEDULES,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The document's modules in the current folder; what they register is forgotten afterwards."""
    text = (PROJECT / "docs" / "extending.md").read_text("utf-8")
    for name in MODULES:
        (block,) = re.findall(rf"^```python\n(# {name}\.py\n.*?)^```", text, re.M | re.S)
        assert len(block.splitlines()) <= 45
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SOL_PLUGINS", "")
    before = [set(table) for table in TABLES]
    ours = dict(PAGE_SCORERS), dict(MLP_PRUNERS)
    yield tmp_path
    for table, names in zip(TABLES, before, strict=True):
        for name in set(table) - names:
            table.remove(name)
    for table, parts in zip((PAGE_SCORERS, MLP_PRUNERS), ours, strict=True):
        for name in set(table) - set(parts):
            del table[name]  # type: ignore[attr-defined]
    for name in (*MODULES, "mine"):
        sys.modules.pop(name, None)


def _import(*names: str) -> list[ModuleType]:
    return [importlib.import_module(name) for name in names]


def test_a_policy_of_registered_parts_is_trained_stored_and_refused_without_them(
    folder: Path,
) -> None:
    _import("recurrent", "parts", "mechanisms")
    model = make_language_model()
    phases = {
        "warm_start": WarmStartConfig(texts=2),
        "grpo": GrpoConfig(updates=1, rollouts=2, windows=1, reward="lost"),
    }
    config = replace(
        tiny_train_config(folder, **phases),
        corpus="counting",
        policy=PolicyConfig("recurrent", 16, 2, observation="drift"),
        grid=ActionGrid(page_scorer="best-key", mlp_pruning="inner"),
    )
    assert from_json(TrainConfig, config.to_dict()) == config
    policy = train(model, folder / "run", config, on_progress=lambda *_: None)
    assert type(policy.network).__name__ == "RecurrentNetwork"
    assert policy.network.encoder.memory.input_size == policy.info.layout.width
    assert policy.info.layout.extra.size == 2
    assert FewRowPolicy.make(policy, 1) is None, "the kernel knows our own network alone"
    made = generate(model, "one and two", policy, Budget(0.6, 0.7, 10), max_new_tokens=5)
    assert len(made.tokens) == 5
    stored = folder / "run" / "policy"
    again = load_policy(stored, model)
    assert generate(model, "one and two", again, Budget(0.6, 0.7, 10), max_new_tokens=5).text == (
        made.text
    )
    code = f"""
from pathlib import Path
from sol_core.errors import PolicyError
from sol_core.policy import read_policy_info
import sys
for name in sys.argv[1:]: __import__(name)
try: print(read_policy_info(Path({str(stored)!r})).config)
except PolicyError as error: print(error)
"""
    for imported, words in (
        ([], "needs the policy network 'recurrent', which nothing has registered"),
        (["recurrent"], "needs the observation 'drift'"),
        (["recurrent", "parts"], "needs the page scorer 'best-key'"),
        (["recurrent", "parts", "mechanisms"], "PolicyConfig(network='recurrent'"),
    ):
        environment = {"PYTHONPATH": f"{PROJECT}:{folder}", "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code, *imported],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=folder,
        )
        assert words in done.stdout


def test_the_best_keys_score_is_below_quests_bound_and_steps_choose_by_it() -> None:
    from kernels.kv_blocks import KVBlock

    _import("mechanisms")
    query, keys = torch.randn(6, 4, 8), torch.randn(3, 2, 10, 8)
    seen = torch.rand(6, 10) < 0.7
    seen[:, ::4] = True  # one of every page of 4
    found = PAGE_SCORERS["best-key"].score(query, KVBlock(keys, keys), seen, 4)
    for row, head, page in torch.cartesian_prod(*map(torch.arange, (6, 4, 3))).tolist():
        tokens = [token for token in range(4 * page, min(4 * page + 4, 10)) if seen[row, token]]
        wanted = (keys[row // 2, head // 2, tokens] @ query[row, head]).max()
        torch.testing.assert_close(found[row, head, page], wanted)
    lm, token = make_language_model().lm, torch.full((2,), 7)
    prefix = lm.new_cache(1, 40)
    lm.prefill(torch.arange(3, 43)[None], prefix)

    def logits(action: Action, **how: Any) -> torch.Tensor:
        cache = prefix.branch(2, 1)
        return lm.decode_step(token, cache, action, mechanisms=Mechanisms(**how)).logits

    own = {"page_scorer": "best-key", "mlp_pruning": "inner"}
    torch.testing.assert_close(logits(DENSE, **own), logits(DENSE), rtol=0, atol=1e-4)
    assert not torch.allclose(logits(Action(0.3), page_scorer="best-key"), logits(Action(0.3)))
    half = Action(channel_keep_ratio=0.5)
    assert not torch.allclose(logits(half, mlp_pruning="inner"), logits(half))


def test_forms_and_settings_follow_the_declarations() -> None:
    _import("mechanisms", "recurrent")
    fields = {one["name"]: one for group in form_groups() for one in group["fields"]}
    assert fields["grid.page_scorer"]["choices"]["best-key"] == "Best keys"
    assert fields["grid.mlp_pruning"]["choices"]["inner"] == "Inner channels"
    assert "recurrent" in fields["policy.network"]["choices"]


def test_a_corpus_is_split_and_shuffled(folder: Path) -> None:
    _import("parts")
    sides = {
        split: load_corpus("counting", data_dir=folder, split=split)  # type: ignore[arg-type]
        for split in ("train", "held_out")
    }
    texts = {split: list(corpus) for split, corpus in sides.items()}
    assert len(texts["train"]) + len(texts["held_out"]) == 300
    assert not set(texts["train"]) & set(texts["held_out"])
    assert 10 < len(texts["held_out"]) < 60
    assert sides["train"].fingerprint == sides["held_out"].fingerprint
    shuffled = list(sides["train"].shuffled(3))
    assert shuffled == list(sides["train"].shuffled(3)) != texts["train"]
    assert sorted(shuffled) == sorted(texts["train"])


def test_a_processor_of_the_document() -> None:
    (module,) = _import("no_echo")
    made = generate(
        make_language_model(), "abc", logits_processors=[module.no_echo], max_new_tokens=15
    )
    ids = [token.token_id for token in made.tokens]
    assert len(set(ids)) == len(ids)


def test_a_schedule_decides_a_run_from_python() -> None:
    (module,) = _import("my_schedules")
    model = make_language_model()
    made = generate(model, "Once upon a time", module.Careful(), max_new_tokens=12)
    assert {token.action for token in made.tokens} == {Action(), Action(0.3, 0.5, 8)}


def test_a_registered_schedule_is_evaluated_at_its_own_spend_beside_static(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text(
        "from sol_core import Action, extensions\n"
        "@extensions.schedule('halves')\n"
        "class Halves:\n"
        "    def __init__(self, budget):\n"
        "        self.keep, self.step = budget.keep_fraction, 0\n"
        "    def __call__(self, observation):\n"
        "        self.step += 1\n"
        "        return Action(self.keep, 0.7, 8) if self.step % 2 else Action(1, 0.7, 8)\n"
    )
    monkeypatch.setenv("SOL_DATA_DIR", str(folder / "data"))
    save_model_folder(folder / "model", "llama3-rope", starts=False)
    asked = ["evaluate", "halves", "--model", str(folder / "model"), "--corpus", "counting"]
    asked += ["--dtype", "float32", "--texts", "4", "--context", "24", "--steps", "8", "--json"]
    asked += ["--budgets", "0.4,0.7,8;0.6,0.7,8", "--baselines", "static"]
    assert cli.main([*asked, "--plugin", "parts"]) == 1
    assert "no policy 'halves'" in capsys.readouterr().err
    assert cli.main([*asked, "--plugin", "parts", "--plugin", "mine"]) == 0
    result = json.loads(capsys.readouterr().out)
    harsh, mild = [budget["methods"] for budget in result["budgets"]]
    assert harsh["policy"]["spend"] == pytest.approx({"keep": 0.7, "channels": 0.7, "bits": 8})
    assert mild["policy"]["spend"]["keep"] == pytest.approx(0.8)
    for methods in (harsh, mild):
        assert methods["policy"]["kl"] > 0
        for name, spent in methods["policy"]["spend"].items():
            assert methods["static"]["spend"][name] == pytest.approx(spent, abs=1e-6)


@pytest.mark.parametrize("name", get_args(ScheduleKind))
def test_a_schedule_hides_none_that_is_built_in(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is built in"):
        extensions.schedule(name)(lambda observation: Action())
    assert name not in extensions.SCHEDULES


def test_what_cannot_be_registered() -> None:
    for add, words in (
        (lambda: extensions.network("factored")(object), "'factored' is registered already"),
        (lambda: extensions.reward("No Name")(len), "small letters"),
        (lambda: extensions.reward("mine")(3), "must be a function or a class"),  # type: ignore[type-var]
        (lambda: extensions.observation("mine", 0), "one number or more, got 0"),
        (lambda: extensions.observation("mine", "2"), "one number or more, got '2'"),  # type: ignore[arg-type]  # on purpose
        (lambda: extensions.page_scorer("mine"), "declared by a PageScorer, got 'mine'"),  # type: ignore[arg-type]
        (lambda: extensions.mlp_pruner(None), "declared by an MlpPruner, got None"),  # type: ignore[arg-type]
        (
            lambda: extensions.page_scorer(replace(PAGE_SCORERS["quest"], name="mine")),
            "names kernels",
        ),
        (lambda: extensions.mlp_pruner(MLP_PRUNERS["both"]), "'both' is registered already"),
    ):
        with pytest.raises(ConfigError, match=words):
            add()


def test_parts_that_return_something_else_are_told() -> None:
    extensions.reward("odd")(lambda scores: scores.kl[:1])
    scores: Any = type("Scores", (), {"kl": torch.zeros(4)})
    with pytest.raises(ConfigError, match=r"'odd' must return .*\(4,\), got \(1,\)"):
        rewards_of("odd", scores)
    extensions.observation("odd", 2)(lambda seen: torch.zeros(1))
    from sol_core.policy.info import InputLayout

    seen = StepObservation(0, torch.zeros(3, dtype=torch.long), (1, 1, 1))
    with pytest.raises(SolError, match=r"'odd' must return \(3, 2\), got \(1,\)"):
        observation_row(seen, torch.ones(3, 3), InputLayout(4, 2, "odd"))
    extensions.network("odd")(len)
    from sol_core.policy.network import network_class

    with pytest.raises(ConfigError, match="derived from DamageNetwork or JointNetwork"):
        network_class(PolicyConfig("odd"))
    with pytest.raises(ConfigError, match=r"network must be one of .*--plugin MODULE"):
        PolicyConfig("nowhere")


def test_the_command_line_imports_what_was_typed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text("import parts\nprint('imported')\n")
    monkeypatch.setenv("SOL_DATA_DIR", str(folder / "data"))
    asked = ["train", "--corpus", "counting", "--set", "grpo.reward=nothing"]
    assert cli.main(asked) == 1
    assert "cannot read the corpus 'counting'" in capsys.readouterr().err
    assert cli.main([*asked, "--plugin", "mine"]) == 2
    said = capsys.readouterr()
    assert said.out == "imported\n"
    assert "grpo.reward must be one of kl, nll, lost, or what a module registers" in said.err
    assert cli.main(["train", "--plugin", "no.such"]) == 2
    assert "--plugin no.such: No module named" in capsys.readouterr().err
    assert "recurrent" not in sys.modules
    assert os.environ["SOL_PLUGINS"] == "mine", "what the page's worker imports"
    sys.modules.pop("mine")
    sys.modules.pop("parts")
    for table in TABLES:
        for name in set(table) & {"drift", "lost", "counting"}:
            table.remove(name)
    assert cli.main(asked) == 2
    assert capsys.readouterr().out == "imported\n"
