"""What a load does for its card, on stand-ins for one."""

import weakref

import torch
import transformers

from sol_core.models import loading
from sol_core.models.devices import use_device
from sol_core.models.step.clock import StepClock
from tests.support.tiny_language_model import save_model_folder
from tests.support.tiny_models import family_of, make_pair

SECOND = torch.device("cuda:1")


def test_a_float16_model_is_let_go_before_the_float32_one_is_placed(tmp_path, monkeypatch):
    folder = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    made, prepared = [], []

    class Decoder(loading.FrozenLM):
        def __init__(self, spec, weights):
            assert all(earlier() is None for earlier in made)
            super().__init__(spec, weights)
            made.append(weakref.ref(self))

    monkeypatch.setattr(loading, "FrozenLM", Decoder)
    monkeypatch.setattr(loading, "pick_dtype", lambda *_: torch.float16)
    monkeypatch.setattr(loading, "_is_finite", lambda lm: False)
    monkeypatch.setattr(
        loading, "_prepare_card", lambda _, dtype, *__: prepared.append(dtype) or []
    )
    model = loading.load_language_model(str(folder), data_dir=tmp_path, device="cpu")
    assert model.lm.dtype == torch.float32
    assert prepared == [torch.float16, torch.float32], "each format is tested"
    assert "overflow float16" in model.notes[0]


def test_a_model_of_transformers_has_its_card_tested(monkeypatch):
    reference, _ = make_pair(family_of("llama-mqa-bias"))
    tested = []
    monkeypatch.setattr(loading, "_prepare_card", lambda *given: tested.append(given) or ["note"])
    monkeypatch.setattr(transformers.PreTrainedModel, "device", SECOND)
    _, _, notes = loading.frozen_copy(reference)
    ((device, dtype, widths, *_),) = tested
    assert (device, dtype, notes) == (SECOND, torch.float32, ["note"])
    assert widths == (96, 176, 6, 1, 16, "silu", True)


def test_a_second_card_is_the_threads_own_and_times_its_steps(monkeypatch):
    current, recorded = [0], []

    class Event:
        def __init__(self, **_):
            pass

        def record(self, stream):
            recorded.append(stream)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(device))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    use_device(torch.device("cuda:0"))
    use_device(torch.device("cpu"))
    use_device(SECOND)
    assert current == [0, SECOND]
    StepClock(SECOND).lap("mlp")
    assert recorded == [SECOND] * 2
