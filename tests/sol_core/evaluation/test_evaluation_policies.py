"""Evaluating policy folders on a text file: what is loaded, refused and left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sol_core.actions import ActionGrid, Budget
from sol_core.corpus.load import load_corpus
from sol_core.errors import ConfigError, CorpusError, PolicyError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.runner import evaluate
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, PolicyConfig, PolicyInfo, save_policy
from sol_core.policy.network import InputLayout, build_network
from sol_core.progress import WorkFinished
from tests.support.tiny_language_model import make_language_model

GRID = ActionGrid(page_size=4)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    lines = (f'{{"text": "Document {number:04d} says something."}}' for number in range(300))
    path.write_text("\n".join(lines))
    return path


def _save(model: LanguageModel, folder: Path, grid: ActionGrid = GRID, corpus: str = "") -> Path:
    """A policy that nobody trained."""
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    config = PolicyConfig(network="joint", width=16, num_heads=2, dropout=0.0)
    torch.manual_seed(0)
    network = build_network(layout, grid, config, 8)
    info = PolicyInfo("untrained", model.name, model.fingerprint, grid, config, layout, 8, corpus)
    save_policy(Policy(info, network, [], model.lm.weights.embedding), folder)
    return folder


def _config(corpus: Path, texts: int = 5, **changes: bool) -> EvaluationConfig:
    return EvaluationConfig(
        corpus=str(corpus),
        budgets=(Budget(0.5, 0.6, 8), Budget(0.3, 0.8, 6)),
        baselines=("static", "random:2"),
        texts=texts,
        context=20,
        steps=8,
        **changes,
    )


def test_a_policy_folder_is_evaluated_from_start_to_end(
    model: LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    folder = _save(model, tmp_path / "policy")
    config = _config(corpus, sampled=True)
    events = evaluate(model, {"mine": folder, "same": folder}, config, data_dir=tmp_path)
    *_, last = events
    assert isinstance(last, WorkFinished)
    result = last.result
    assert (result["policy"], result["policies"]) == ("mine", ["mine", "same"])
    assert result["corpus"] == "text.jsonl"
    assert not result["held_out_only"]
    for budget in result["budgets"]:
        methods = budget["methods"]
        assert methods["policy:same"] == methods["policy"]
        assert methods["policy_sampled"] != methods["policy"]
        assert all(methods[name]["matched"] for name in ("static", "random_best"))
        assert budget["paired"]["policy:same"]["gain"] == 0


def test_the_text_it_was_trained_on_gives_its_held_out_side(
    model: LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    fingerprint = load_corpus(str(corpus), data_dir=tmp_path).fingerprint
    folder = _save(model, tmp_path / "policy", corpus=fingerprint)
    *_, last = evaluate(model, {"mine": folder}, _config(corpus), data_dir=tmp_path)
    assert isinstance(last, WorkFinished)
    assert last.result["held_out_only"]
    other = _save(model, tmp_path / "other")
    config = _config(corpus, texts=200)
    events = evaluate(model, {"other": other, "mine": folder}, config, data_dir=tmp_path)
    with pytest.raises(CorpusError, match=r"the held-out side of .* holds .* 200 were asked for"):
        list(events)


def test_folders_that_cannot_be_used_are_refused_at_once(
    model: LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    config, folder = _config(corpus), _save(model, tmp_path / "policy")
    with pytest.raises(ConfigError, match="no policy to evaluate"):
        evaluate(model, {}, config, data_dir=tmp_path)
    with pytest.raises(PolicyError, match="holds no config"):
        evaluate(model, {"gone": tmp_path / "gone"}, config, data_dir=tmp_path)
    stranger = dataclasses.replace(model, fingerprint="1" * 32)
    with pytest.raises(PolicyError, match="trained for tiny"):
        evaluate(stranger, {"mine": folder}, config, data_dir=tmp_path)
    other_site = dataclasses.replace(GRID, quant_site="mlp_input")
    other = _save(model, tmp_path / "other", grid=other_site)
    with pytest.raises(ConfigError, match="policies mine and other have different action grids"):
        evaluate(model, {"mine": folder, "other": other}, config, data_dir=tmp_path)
