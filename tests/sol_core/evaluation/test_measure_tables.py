"""A model without tables is measured before it is trained for shares, once, and says so."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sol_core.actions import GRIDS, Action
from sol_core.budgets.mixes import DamageTable, has_own_damage, mix_table
from sol_core.errors import ConfigError, CorpusError, ModelLoadError
from sol_core.evaluation import measure_tables
from sol_core.evaluation.measure_tables import measure_page_floors
from sol_core.fields import from_json
from sol_core.model_tables.tables import read_tables
from sol_core.progress import WorkStopped
from tests.support.tiny_language_model import make_language_model

GRID = GRIDS["default"]
TEXT = "The keeper of the light wrote down what the sea had said. " * 40


def never():
    return False


@pytest.fixture
def data_dir(monkeypatch, tmp_path):
    """Papers and passages that are made here, and few, short contexts."""

    def corpus(source, **_):
        def shuffled(seed):
            while True:
                yield TEXT

        return SimpleNamespace(shuffled=shuffled)

    monkeypatch.setattr("sol_core.evaluation.measure_tables.load_corpus", corpus)
    monkeypatch.setattr(measure_tables, "TEXTS", 1)
    monkeypatch.setattr(measure_tables, "CONTEXTS", (64, 128))
    monkeypatch.setattr(measure_tables, "WINDOWS", 1)
    return tmp_path


def test_a_model_is_measured_once_and_its_tables_are_read_again(data_dir):
    model = make_language_model()
    assert mix_table(model, GRID).measured_on == "smollm2-135m-instruct"
    assert list(measure_tables.measure_tables(model, GRID, data_dir, never))
    assert has_own_damage(model, GRID)
    assert has_own_damage(model, replace(GRID, quant_block=0)), "measured at 16 bits"
    mixes = mix_table(model, GRID)
    assert mixes.measured_on == model.name
    assert mixes.hull(100)[-1].share == 1
    for grid in (GRID, GRIDS["paper"]):  # other grids take the default model's
        assert not list(measure_tables.measure_tables(model, grid, data_dir, never))
    kept = read_tables(data_dir, model.fingerprint)
    assert kept.floors == model.lm.page_thresholds
    assert kept.floors.fingerprint == model.fingerprint
    tables = [from_json(DamageTable, one["default"]) for one in (kept.damage, model.damage)]
    assert tables[0] == tables[1]
    again = make_language_model()
    assert not list(measure_tables.measure_tables(again, GRID, data_dir, never))
    assert from_json(DamageTable, again.damage["default"]) == tables[0]
    assert again.lm.page_thresholds == kept.floors


def test_one_that_is_stopped_keeps_nothing(data_dir):
    model = make_language_model()
    *_, last = measure_tables.measure_tables(model, GRID, data_dir, lambda: True)
    assert isinstance(last, WorkStopped)
    assert not model.damage
    assert not (data_dir / "measured").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "floors": {}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "0a.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"0a\.json cannot be read .*: delete it"):
        read_tables(tmp_path, "0a")


def _text(count):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 250, (count,), generator=generator).tolist()


def test_steps_read_the_level_in_the_mean():
    model, text = make_language_model(), _text(141)
    lm = model.lm
    lm.page_thresholds = measure_page_floors(model, [text])
    assert lm.page_thresholds.contexts == (64, 128)
    assert lm.page_thresholds.fingerprint == model.fingerprint
    prefix = lm.new_cache(1, len(text))
    lm.prefill(torch.tensor([text]), prefix)
    lengths = list(range(117, 140))
    for level in (0.2, 0.4, 0.7):
        rows = prefix.branch(1, 8, lengths=lengths, sources=[0] * len(lengths))
        fed = torch.tensor([text[length] for length in lengths])
        read = lm.decode_step(fed, rows, Action(level, 1.0), mechanisms=GRID.mechanisms).tokens_read
        seen = torch.tensor(lengths)[:, None] + 1
        share = (read / (lm.spec.num_kv_heads * seen)).mean()
        assert share.item() == pytest.approx(level, abs=0.03)


def test_longer_contexts_than_the_texts_are_left_out():
    model = make_language_model()
    assert measure_page_floors(model, [_text(70)]).contexts == (64,)
    with pytest.raises(ConfigError, match="64"):
        measure_page_floors(model, [_text(63)])


def test_the_first_compressed_use_measures_once_with_progress(data_dir):
    reports = [], []
    for seen in reports:
        model = make_language_model()
        measure_tables.ensure_tables(model, data_dir, lambda *told, seen=seen: seen.append(told))
        assert has_own_damage(model, GRID)
        assert model.lm.page_thresholds.fingerprint == model.fingerprint
    first, again = reports
    assert {message for message, _ in first} == {measure_tables.MESSAGE}
    assert not again, "the second model finds them"


def test_without_the_texts_the_default_models_tables_serve_and_a_warning_says_so(
    monkeypatch, tmp_path, caplog
):
    def refused(*_, **__):
        raise CorpusError("no network")

    monkeypatch.setattr(measure_tables, "load_corpus", refused)
    model = make_language_model()
    measure_tables.ensure_tables(model, tmp_path, lambda *_: None)
    assert mix_table(model, GRID).measured_on == "smollm2-135m-instruct"
    assert "as for the default model: no network" in caplog.text
