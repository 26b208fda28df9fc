"""``bench decode``: what runs, how ratios are made, and one contestant on a tiny model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sol_core.actions import GRIDS, Action
from sol_core.errors import ConfigError
from sol_core.models.loading import LanguageModel
from sol_core.speed.decode import BenchOptions, _contestants, _summary
from sol_core.speed.decode_worker import _Ours, _Replay
from tests.support.tiny_models import make_tiny_lm

OPTIONS = BenchOptions(Path("model"), rounds=3, policy_folder=Path("policy"), compiled=True)


def test_ratios_are_medians_within_rounds() -> None:
    contestants = _contestants(OPTIONS, 8192)
    rates = {name: [10.0, 20.0, 40.0] for name in contestants}
    rates["half_2048"] = [12.0, 26.0, 44.0]  # 1.2, 1.3, 1.1 of dense in the same round
    rates["half_8192"] = [15.0, 20.0, 60.0]
    rates["policy"] = [9.0, 19.0, 39.0]
    rates["transformers_float32"] = [5.0, 5.0, 5.0]
    rates["transformers_bfloat16"] = [4.0, 4.0, 4.0]
    rates["transformers_compiled_float32"] = [3.0, 3.0, 3.0]
    rates["transformers_compiled_bfloat16"] = [4.0, 8.0, 4.0]
    found = _summary(rates, 1.0, {"dense_bytes": 5e7, "dtype": "float32", "tuning": None}, OPTIONS)
    assert found["half_budget_speedup"] == pytest.approx(1.2)
    assert found["half_budget_speedup_8192"] == pytest.approx(1.5)
    assert found["policy_overhead"] == pytest.approx(0.05)
    assert found["ratio_to_transformers"] == pytest.approx(2.5)
    assert found["bandwidth_share"] == pytest.approx(1.0)


def test_transformers_is_compiled_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(options: BenchOptions) -> set[str]:
        return {name for name in _contestants(options, 2048) if "compiled" in name}

    monkeypatch.setenv("PATH", "")
    assert compiled(BenchOptions(Path("model"))) == set()
    both = {"transformers_compiled_float32", "transformers_compiled_bfloat16"}
    assert compiled(BenchOptions(Path("model"), compiled=True)) == both
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: name if name == "clang++" else None)
    assert compiled(BenchOptions(Path("model"))) == both
    assert compiled(BenchOptions(Path("model"), compiled=False)) == set()


def test_llama_cpp_is_measured_at_every_context_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.raises(ConfigError, match="npm install node-llama-cpp"):
        BenchOptions(Path("model"), llama_cpp=tmp_path, gguf=Path("model.gguf"))
    (tmp_path / "node_modules" / "node-llama-cpp").mkdir(parents=True)
    with pytest.raises(ConfigError, match="reads GGUF"):
        BenchOptions(Path("model"), llama_cpp=tmp_path)
    options = BenchOptions(Path("model"), llama_cpp=tmp_path, gguf=Path("model.gguf"))
    contestants = _contestants(options, 8192)
    theirs = {name: c.context for name, c in contestants.items() if name.startswith("llama_cpp")}
    assert theirs["llama_cpp"] == options.context
    for context in (2048, 8192):
        assert theirs[f"llama_cpp_{context}"] == contestants[f"dense_{context}"].context
    rates = {name: [1.0, 1.0, 1.0] for name in contestants}
    rates["dense"], rates["llama_cpp"] = [30.0, 60.0, 90.0], [10.0, 10.0, 45.0]
    found = _summary(rates, 1.0, {"dense_bytes": 1.0, "dtype": "float32", "tuning": None}, options)
    assert found["ratio_to_llama_cpp"] == pytest.approx(3.0)
    assert found["ratio_to_llama_cpp_2048"] == pytest.approx(1.0)


def test_contexts_beyond_the_model_and_absent_policies_are_null() -> None:
    options = BenchOptions(Path("model"), rounds=1)
    contestants = _contestants(options, 2048)
    assert contestants["dense_2048"].context + options.new_tokens < 2048
    assert "dense_8192" not in contestants
    rates = {name: [1.0] for name in contestants}
    found = _summary(rates, 1.0, {"dense_bytes": 1.0, "dtype": "float32", "tuning": None}, options)
    assert found["half_budget_speedup_8192"] is None
    assert found["policy_overhead"] is None
    assert found["ratio_to_llama_cpp"] is None


def test_one_prefill_serves_every_measurement() -> None:
    model = cast(LanguageModel, SimpleNamespace(lm=make_tiny_lm(), vocab=199))
    ours: Any = _Ours(model, None, 4, GRIDS["default"].mechanisms)
    cache = model.lm.new_cache(1, 40)
    cache.advance(30)
    ours._caches[30] = cache
    for budget in ((1.0, 1.0), (0.5, 0.5)):
        assert ours.measure("fixed", budget, 30) > 0
    assert ours._through_loop(_Replay([Action(0.5, 0.5)] * 5), 30) > 0
    assert ours._prefilled(30).own_lengths == [30]
