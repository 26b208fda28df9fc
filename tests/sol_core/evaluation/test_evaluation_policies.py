"""Evaluating policy folders on a text file: what is loaded, refused and left out."""

import dataclasses

import pytest
import torch

from sol_core.actions import ActionGrid, Budget
from sol_core.corpus.documents import SPLITS
from sol_core.corpus.load import load_corpus
from sol_core.errors import ConfigError, CorpusError, PolicyError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.runner import evaluate
from sol_core.evaluation.texts import load_texts
from sol_core.policy.info import PolicyConfig, PolicyInfo
from sol_core.policy.network import InputLayout, build_network
from sol_core.policy.policy import Policy, save_policy
from tests.sol_core.tiny_assets import make_tokenizer

GRID = ActionGrid(page_size=4)


TOKENIZER = make_tokenizer()
BLOCK = 20


@pytest.fixture
def corpus(tmp_path):
    """400 documents of 20 characters."""
    path = tmp_path / "numbers.jsonl"
    texts = [f"{number:04d} is some number" for number in range(400)]
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    return path


def _save(model, folder, grid=GRID, corpus=""):
    """A policy that nobody trained."""
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    config = PolicyConfig(network="joint", width=16, num_heads=2, dropout=0.0)
    torch.manual_seed(0)
    network = build_network(layout, grid, config, 8)
    info = PolicyInfo("untrained", model.name, model.fingerprint, grid, config, layout, 8, corpus)
    save_policy(Policy(info, network, [], model.lm.weights.embedding), folder)
    return folder


def _config(corpus, texts=5, **changes):
    return EvaluationConfig(
        corpus=str(corpus), budgets=(Budget(0.5, 0.6, 8), Budget(0.3, 0.8, 6)),
        baselines=("static", "random:2"), texts=texts, context=20, steps=8, **changes,
    )  # fmt: skip


def test_a_policy_folder_is_evaluated(model, corpus, tmp_path):
    folder = _save(model, tmp_path / "policy")
    config = _config(corpus)
    events = evaluate(model, {"mine": folder, "same": folder}, config, data_dir=tmp_path)
    *_, last = events
    result = last.result
    assert (result["policy"], result["policies"]) == ("mine", ["mine", "same"])
    assert result["corpus"] == "numbers.jsonl"
    assert not result["held_out_only"]
    for budget in result["budgets"]:
        methods = budget["methods"]
        assert methods["same"]["matched"]
        assert all(methods[name]["matched"] for name in ("static", "random_best"))
        assert abs(budget["paired"]["same"]["nll_gain"]) < 0.02


def test_its_own_text_is_held_out(model, corpus, tmp_path):
    fingerprint = load_corpus(str(corpus), data_dir=tmp_path).fingerprint
    folder = _save(model, tmp_path / "policy", corpus=fingerprint)
    *_, last = evaluate(model, {"mine": folder}, _config(corpus), data_dir=tmp_path)
    assert last.result["held_out_only"]
    folders = {"other": _save(model, tmp_path / "other"), "mine": folder}
    with pytest.raises(CorpusError, match=r"the held-out side of .* holds .* 200 were asked for"):
        list(evaluate(model, folders, _config(corpus, texts=200), data_dir=tmp_path))


def test_unusable_folders_are_refused(model, corpus, tmp_path):
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


def _load(path, count, trained_on=(), seed=0, block=BLOCK):
    return load_texts(
        str(path), tokenizer=TOKENIZER, count=count, block_len=block, seed=seed,
        trained_on=trained_on, data_dir=path.parent,
    )  # fmt: skip


def _documents(blocks):
    """Numbers of the documents that begin in the blocks."""
    text = TOKENIZER.decode([token for block in blocks for token in block])
    return {piece[:4] for piece in text.split("<|endoftext|>")[1:-1]}


def test_unseen_text_is_used_as_a_whole_and_what_was_trained_on_is_not(corpus):
    sides = [load_corpus(str(corpus), data_dir=corpus.parent, split=split) for split in SPLITS]
    train, held_out = ({text[:4] for text in side} for side in sides)
    texts = _load(corpus, 400, ["something else"])
    assert not texts.held_out_only
    assert [len(block) for block in texts.blocks] == [BLOCK] * 400
    found = _documents(texts.blocks)
    assert found & train
    assert found & held_out
    assert len(found) > 340
    assert texts.blocks[:30] != _load(corpus, 400, seed=2).blocks[:30]

    texts = _load(corpus, 20, {sides[0].fingerprint})
    assert texts.held_out_only
    assert (texts.fingerprint, texts.corpus) == (sides[0].fingerprint, "numbers.jsonl")
    assert _documents(texts.blocks) <= held_out
