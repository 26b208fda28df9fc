"""Damaged files and numbers that are not finite: a sentence each, and never a NaN in a result."""

import dataclasses
import hashlib
import json
import os
import random

import pytest
import torch

from app.cli import main as cli
from kernels.log_softmax import log_softmax_and_entropy, reference
from sol_core.accuracy.questions import Continuation
from sol_core.accuracy.scoring import score_densely
from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.decoding.prefix import read_prefixes
from sol_core.errors import ConfigError, ModelLoadError, NotFiniteError, PolicyError, SolError
from sol_core.evaluation.rollout import roll_out
from sol_core.files import staging
from sol_core.files.staging import known_sha256, sha256_of
from sol_core.generation.engine import generate
from sol_core.generation.scoring import ScoreCase, dense_nll, score_case
from sol_core.inspection.engine import inspect_text
from sol_core.inspection.records import InspectionConfig
from sol_core.models.loading import load_language_model, repair_model
from sol_core.models.weights import Linear
from sol_core.policy.files.folder import read_policy_folder
from sol_core.training.config import TrainConfig
from sol_core.training.warm_start import label_text, read_labels
from tests.support.tiny_language_model import make_language_model, save_model_folder
from tests.support.tiny_policies import save_tiny_policy

TOKENS = list(b"The sea was calm, and the light of the lamp went over the water.")


@pytest.fixture(scope="module")
def healthy():
    return make_language_model()


@pytest.fixture(scope="module")
def model(healthy):
    """One weight of one word's column is NaN: every other logit is a number."""
    weights = healthy.lm.weights
    matrix = weights.head.weight.clone()
    matrix[3, 7] = torch.nan
    head = Linear(matrix)
    lm = type(healthy.lm)(healthy.lm.spec, dataclasses.replace(weights, head=head))
    return dataclasses.replace(healthy, lm=lm)


def _generated(model):
    list(generate(model, "The sea", GenerationConfig(max_new_tokens=3)))


def _scored(model):
    score_case(model, ScoreCase(tuple(TOKENS), 8, ((DENSE, Action(0.5, 0.5, 8)),)))


def _evaluated(model):
    cache, state = read_prefixes(model.lm, [TOKENS[:8]], ActionGrid().page_size, None)
    rows = PlannedRows([[DENSE], [Action(0.5, 0.5, 8)]])
    roll_out(model.lm, cache.branch(2, 4), [TOKENS[8:13]], rows, DecodeOptions(4), state)


def _labelled(model):
    config = TrainConfig(corpus="builtin", context=16, windows=2, steps=4)
    label_text(model.lm, TOKENS[: config.block_len], config, torch.Generator().manual_seed(0))


USES = {
    "generate": _generated,
    "score": _scored,
    "score densely": lambda model: dense_nll(model, TOKENS, 8),
    "evaluate": _evaluated,
    "inspect": lambda model: list(
        inspect_text(model, bytes(TOKENS).decode(), InspectionConfig(()))
    ),
    "label for training": _labelled,
    "multiple choice": lambda model: score_densely(
        model.lm, [Continuation(0, 0, tuple(TOKENS[:8]), tuple(TOKENS[8:12]), 4)]
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_step_that_is_not_finite_ends_every_run(use, model, healthy):
    with pytest.raises(NotFiniteError, match=r"NaN or infinity.*doctor --repair"):
        USES[use](model)
    USES[use](healthy)


def _steps_on_a_gpu(lm, bad, count, monkeypatch):
    """Steps that are checked as on a GPU; the entropy of one is NaN."""

    def entropy(logits):
        number = float("nan") if len(made) == bad else 1.0
        made.append(number)
        return logits, torch.full((len(logits),), number)

    made = []
    monkeypatch.setattr("sol_core.decoding.loop.log_softmax_and_entropy", entropy)
    monkeypatch.setattr("sol_core.decoding.loop._Loop.checks_late", True)
    cache = lm.new_cache(1, count)
    rows = PlannedRows([[DENSE]])
    yield from decode(lm, cache, [1], rows, lambda _: [1], DecodeOptions(count))


def test_a_gpu_is_asked_one_step_late_and_in_the_end(healthy, monkeypatch):
    def steps_until_raised(bad, count):
        seen = []
        steps = _steps_on_a_gpu(healthy.lm, bad, count, monkeypatch)
        with pytest.raises(NotFiniteError, match=f"step {bad}:"):
            seen.extend(step.index for step in steps)
        return seen

    assert steps_until_raised(bad=1, count=4) == [0, 1]
    assert steps_until_raised(bad=3, count=4) == [0, 1, 2, 3]


@pytest.mark.parametrize("rows", [1, 24])
@pytest.mark.parametrize("width", [199, 2**15 + 5])  # plain torch, and the kernels
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_bad_logit_anywhere_shows_in_the_entropy(rows, width, value):
    for place in (0, 32, width - 1):
        logits = torch.randn(rows, width, generator=torch.Generator().manual_seed(place))
        logits[rows - 1, place] = value
        assert not log_softmax_and_entropy(logits)[1].sum().isfinite()
        assert not reference.log_softmax_and_entropy(logits)[1].sum().isfinite()


def test_a_file_is_read_once_per_change(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(staging, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    file, stamps = tmp_path / "weights", tmp_path / "cache" / "stamps.json"
    file.write_bytes(b"good")
    good, evil = (hashlib.sha256(content).hexdigest() for content in (b"good", b"evil"))
    assert known_sha256(file, stamps) == known_sha256(file, stamps) == good
    assert len(read) == 1
    os.utime(file, ns=(0, 0))
    assert known_sha256(file, stamps) == good
    assert len(read) == 2
    file.write_bytes(b"evil")  # the same size
    assert known_sha256(file, stamps) == known_sha256(file, stamps) == evil
    assert len(read) == 3
    assert known_sha256(file, None) == evil
    assert len(read) == 4  # without stamps every byte is read
    stamps.write_text("[" * 9)
    assert known_sha256(file, stamps) == evil
    assert [path.name for path in stamps.parent.iterdir()] == ["stamps.json"]
    nowhere = file / "no-folder" / "stamps.json"  # costs only time
    assert known_sha256(file, nowhere) == evil


def test_any_header_loads_or_gives_a_sentence(tmp_path):
    folder = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    weights, draw = folder / "model.safetensors", random.Random(0)
    good = weights.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    refused = 0
    for _ in range(40):
        content = bytearray(good)
        for _ in range(draw.choice([1, 2, 5])):
            content[draw.randrange(header)] = draw.choice([*b'0123456789"{}[],:FBUI', 0, 0xFF])
        weights.write_bytes(content)
        try:
            load_language_model(str(folder), data_dir=tmp_path, dtype="float32", device="cpu")
        except SolError:
            refused += 1
    assert refused > 20


def test_a_damaged_file_of_a_hub_model_is_named_and_fetched_again(tmp_path, monkeypatch, capsys):
    """The Hub's cache: snapshots of links to files that are named by their SHA-256."""
    snapshot = save_model_folder(tmp_path / "hub" / "snapshots", "llama-gqa-tied", starts=False)
    content = (snapshot / "model.safetensors").read_bytes()
    blob = tmp_path / "hub" / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(blob)

    def download(name, **options):
        if not blob.exists():
            blob.write_bytes(content)
        return snapshot

    def load():
        return load_language_model("me/tiny", data_dir=tmp_path, device="cpu")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    sound = load().fingerprint
    _damage(blob)
    with pytest.raises(ModelLoadError) as caught:
        load()
    assert f"{blob} is damaged: its SHA-256 is {sha256_of(blob)}, expected {blob.name}" in str(
        caught.value
    )
    command = f"doctor --repair --model me/tiny --data-dir {tmp_path}"
    assert str(caught.value).endswith(command)
    assert cli.main(command.split()) == 0
    capsys.readouterr()
    assert load().fingerprint == sound


def test_a_folder_of_ones_own_is_not_repaired(tmp_path):
    with pytest.raises(ConfigError, match="copy them again"):
        repair_model(str(tmp_path), tmp_path, lambda message, fraction: None)


def test_a_damaged_policy_is_named(healthy, tmp_path):
    folder = save_tiny_policy(healthy, tmp_path / "policy")
    weights, config = folder / "model.safetensors", folder / "config.json"
    read_policy_folder(folder)
    good = weights.read_bytes()
    _damage(weights)
    with pytest.raises(PolicyError, match=r"is damaged: the SHA-256 of model\.safetensors or"):
        read_policy_folder(folder)
    weights.write_bytes(good[:-1])
    with pytest.raises(PolicyError, match=r"model\.safetensors is missing"):
        read_policy_folder(folder)
    weights.write_bytes(good)
    read_policy_folder(folder)
    record = json.loads(config.read_text())
    halved = [
        table | {"log_prices": [price / 2 for price in table["log_prices"]]}
        for table in record["prices"]
    ]
    changes = {"prices": halved, "correction": None, "episode_steps": 8, "name": "another"}
    for name, value in changes.items():
        config.write_text(json.dumps(record | {name: value}))
        with pytest.raises(PolicyError, match=r"SHA-256 of model\.safetensors or config\.json is"):
            read_policy_folder(folder)
    del record["weights_sha256"]
    config.write_text(json.dumps(record))
    with pytest.raises(PolicyError, match=r"has no weights_sha256, .*copy it again"):
        read_policy_folder(folder)


def test_damaged_labels_are_named(tmp_path):
    path = tmp_path / "00000.safetensors"
    for content in (None, b"", b"\xff" * 300):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PolicyError, match=r"00000\.safetensors are missing or damaged"):
            read_labels(path)


def _damage(path):
    """One bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
