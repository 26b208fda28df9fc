"""A machine's tuning: measured once, kept, and left alone where nothing is clearly faster."""

from types import SimpleNamespace

import pytest
import torch

from kernels.cpu.threads import Tuning, default_tuning
from kernels.decode_layer import few_row_kernel
from sol_core.actions import DENSE
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM, step_timing, tuning
from tests.support.tiny_language_model import make_language_model, make_long_model

pytestmark = pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here")


class _Clock:
    """Time that passes only while a step runs: so many seconds, by its tuning."""

    def __init__(self, seconds, cores):
        self.now, self.steps, self._seconds, self.cores = 0.0, 0, seconds, cores

    def run(self, chosen):
        self.steps += 1
        self.now += self._seconds(chosen)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Tunes a stand-in for a model of quantised weights on four threads."""
    for variable in (tuning.TUNING_VARIABLE, "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(tuning, "kernel_threads", lambda: 4)
    monkeypatch.setattr(tuning, "can_time_steps", lambda lm: False)

    def measure(seconds, name="weights", cores=4.0):
        clock, said = _Clock(seconds, cores), list[str]()
        monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(tuning.time, "process_time", lambda: clock.cores * clock.now)
        monkeypatch.setattr(tuning, "_steps", lambda lm: clock.run)
        lm = SimpleNamespace(device=torch.device("cpu"), steps_are_quantised=True, tuning=None)
        model = SimpleNamespace(name="m", fingerprint=name, dtype_name="float32", lm=lm)
        tuning.tune(model, tmp_path, lambda: said.append("measuring"))
        return lm, clock, said

    return measure


DEFAULT = default_tuning(4, quantised=True)


def test_the_fastest_choice_is_found_and_kept(measured):
    def seconds(chosen):
        return 0.02 + 0.001 * abs(chosen.ahead - 6) + 0.002 * abs(chosen.threads - 3)

    lm, _, said = measured(seconds)
    assert (lm.tuning, said) == (Tuning(3, 6), ["measuring"])
    again, clock, said = measured(lambda chosen: 1.0)
    assert (again.tuning, clock.steps, said) == (Tuning(3, 6), 0, [])
    other, _, _ = measured(lambda chosen: 1.0, "other weights")
    assert other.tuning == DEFAULT


def test_a_busy_machine_decides_nothing(measured, tmp_path):
    """One thread is best while others have the cores; the next start asks again."""

    def seconds(chosen):
        return 0.02 * chosen.threads

    lm, _, said = measured(seconds, cores=2.5)
    assert (lm.tuning, said) == (None, ["measuring"])
    assert tuning.stored_tunings(tmp_path / "cache") == {}
    lm, _, said = measured(seconds, cores=3.8)
    assert (lm.tuning.threads, said) == (1, ["measuring"])
    assert measured(seconds, cores=2.5)[2] == []


def test_a_gain_within_the_noise_changes_nothing(measured):
    lm, _, _ = measured(lambda chosen: 0.01 if chosen == DEFAULT else 0.0099)
    assert lm.tuning == DEFAULT


def test_the_variable_wins(measured, monkeypatch):
    monkeypatch.setenv(tuning.TUNING_VARIABLE, "1,8")
    lm, clock, _ = measured(lambda chosen: 0.1)
    assert (lm.tuning, clock.steps) == (Tuning(1, 8), 0)
    for wrong in ("fast", "0,4", "2", "2,4,6", "2,999"):
        monkeypatch.setenv(tuning.TUNING_VARIABLE, wrong)
        with pytest.raises(ConfigError, match="must be threads"):
            measured(lambda chosen: 0.1)


def test_a_real_model_decodes_with_each(tmp_path, monkeypatch):
    monkeypatch.delenv(tuning.TUNING_VARIABLE, raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_LEAST_BUSY", 0.0)  # tests have the machine to share
    model = make_language_model()
    lm = model.lm
    tuning.tune(model, tmp_path / "data", lambda: None)
    (kept,) = tuning.stored_tunings(tmp_path).values()
    assert lm.tuning == Tuning(kept.threads, kept.ahead)
    assert len(kept.step_ms) >= 4
    assert min(kept.step_ms.values()) > 0
    untuned = FrozenLM(lm.spec, lm.weights)
    cache, token = untuned.new_cache(1, 8), torch.zeros(1, dtype=torch.int64)
    other = lm.new_cache(1, 8)
    assert torch.equal(
        untuned.decode_step(token, cache).logits, lm.decode_step(token, other).logits
    )


def test_steps_are_timed_once_and_kept_with_the_tuning(tmp_path, monkeypatch):
    monkeypatch.delenv(tuning.TUNING_VARIABLE, raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_LEAST_BUSY", 0.0)
    for spread, apart in ((0.0, 1e9), (1e9, 0.0)):
        monkeypatch.setattr(step_timing, "_MOST_SPREAD", spread)
        monkeypatch.setattr(step_timing, "_MOST_APART", apart)
        tuning.tune(make_long_model(max_positions=2048), tmp_path / "data", lambda: None)
        (kept,) = tuning.stored_tunings(tmp_path).values()
        assert kept.times is None  # other programs had the cores
    monkeypatch.setattr(step_timing, "_MOST_APART", 1e9)
    monkeypatch.setattr(tuning, "_QUICK_STEPS_MS", 0.0)
    tuning.tune(make_long_model(max_positions=2048), tmp_path / "data", lambda: None)
    (kept,) = tuning.stored_tunings(tmp_path).values()
    assert kept.times is None  # it would take minutes
    monkeypatch.setattr(tuning, "_QUICK_STEPS_MS", 1e9)
    model = make_long_model(max_positions=2048)
    tuning.tune(model, tmp_path / "data", lambda: None)
    times = model.lm.step_times
    assert min(times.mlp) > 0
    assert [at.context for at in times.at] == [256, 2000]
    for at in times.at:
        assert min(*at.head, at.around, at.dense, at.mlp, *at.sparse) >= 0
        assert times.step_ms(DENSE, at.context) > 0
    other = make_long_model(max_positions=2048)
    said = []
    tuning.tune(other, tmp_path / "data", lambda: said.append("measuring"))
    assert (other.lm.step_times, said) == (times, [])


def test_a_long_text_is_timed_on_copies_of_a_shorter_one():
    lm = make_long_model(max_positions=8192).lm
    text = torch.arange(100)
    cache = step_timing._prefix(lm, text, 5000)
    read = step_timing._prefix(lm, text, 2000)
    assert cache.lengths == [5000]
    for store, first in zip(cache.layers, read.layers, strict=True):
        for copied, own in ((store.keys, first.keys), (store.values, first.values)):
            assert torch.equal(copied[:, :, :2000], own[:, :, :2000])
            assert torch.equal(copied[:, :, 2000:4000], own[:, :, :2000])
            assert torch.equal(copied[:, :, 4000:5000], own[:, :, :1000])
